"""The Gemini Developer API's files and batches as seen from the wire (v1 and v1beta, 2026)."""

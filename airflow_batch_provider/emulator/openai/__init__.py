"""OpenAI's Files, Uploads and Batches as seen from the wire (2026-08)."""

"""Gemini's batches on the Developer API."""

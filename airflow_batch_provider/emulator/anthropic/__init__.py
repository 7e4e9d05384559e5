"""Anthropic's Message Batches as seen from the wire (API version 2026-10-21)."""

"""OpenAI's Batch API, and other services that speak it."""

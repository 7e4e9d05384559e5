"""The whole deployment: batches that nobody waits for, a person's word on a lost one, stale stage storage."""

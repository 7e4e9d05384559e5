"""The whole deployment: which batches nobody waits for, a person's word on a lost one, old stage storage."""

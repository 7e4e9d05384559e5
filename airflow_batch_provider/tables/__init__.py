"""Results as tables: the columns of the source that were kept, the answer's fields and what became of each row."""

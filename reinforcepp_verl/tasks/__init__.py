"""The CPU tasks that this package generates: questions, tokenizer and a warm-started model.

Imports `data`, `rewards` and `common`.
"""

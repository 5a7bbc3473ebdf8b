"""The two CPU tasks that this package makes itself: questions, tokenizer and a warm-started model.

Imports `common`, `config`, `data` and `rewards`.
"""

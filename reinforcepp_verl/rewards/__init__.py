"""Reward functions: what an answer is worth, scored in worker processes that can be killed.

Imports `common` and `config`.
"""

"""Reward functions; answers are scored in worker processes that can be killed.

Imports `config`.
"""

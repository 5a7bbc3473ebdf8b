"""Atomic checkpoints: write, find, verify and prune them, using only what is on disk.

Imports `config` and `common`.
"""

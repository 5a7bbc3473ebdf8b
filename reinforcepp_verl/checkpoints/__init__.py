"""Atomic checkpoints: write, find, verify and prune them, always by looking at the disk.

Imports `common` and `config`.
"""

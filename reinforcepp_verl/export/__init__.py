"""Exports a checkpoint as a Hugging Face folder, verified against its shards.

Imports `runs`, `checkpoints` and `common`.
"""

"""Exports a checkpoint as a Hugging Face folder, verified against its shards. Imports `checkpoints` and `common`."""

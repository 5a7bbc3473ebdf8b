"""Checkpoints that are whole or are not there: writing, finding, checking and pruning them, by looking at the disk."""

"""Finished and running runs on disk: read their metrics, draw their curves."""

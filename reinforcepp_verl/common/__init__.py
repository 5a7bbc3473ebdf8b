"""Helpers that any folder may import: atomic writes, paths of a run, terminal output, plot style, hardware.

Imports no other folder.
"""

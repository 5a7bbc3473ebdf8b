"""Launches, follows, stops and resumes a run.

Imports everything except `evaluation`, `export`, `slurm`, `doctor` and `cli`.
"""

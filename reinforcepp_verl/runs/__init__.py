"""One run: launch it, follow it, stop it, resume it.

Imports everything but `evaluation`, `export`, `slurm`, `doctor` and `cli`.
"""

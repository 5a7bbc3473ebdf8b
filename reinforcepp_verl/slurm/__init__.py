"""The Python part of `reinforcepp slurm`, around recipes/slurm/train.sbatch. Imports `runs` and the folders below."""

"""What `reinforcepp slurm` does around recipes/slurm/train.sbatch. Imports `runs` and what is below it."""

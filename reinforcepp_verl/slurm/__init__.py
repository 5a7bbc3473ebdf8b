"""Runs as Slurm jobs: what `reinforcepp slurm` does around recipes/slurm/train.sbatch."""

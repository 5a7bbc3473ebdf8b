"""pass@k, majority@k, intervals, and comparisons of runs. Imports `runs` and the folders below it."""

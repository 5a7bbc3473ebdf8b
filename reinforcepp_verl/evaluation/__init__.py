"""pass@k, majority@k, intervals, and comparisons of runs. Imports `runs` and what is below it."""

"""Loads, converts, deduplicates and summarizes real data sets. Imports `config` and `common`."""

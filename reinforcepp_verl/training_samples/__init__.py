"""Samples of the training that a run keeps: which ones, their format and files. Imports `common`."""

"""Launches, follows, stops and resumes a run.

Imports `preflight` and the folders below it.
"""

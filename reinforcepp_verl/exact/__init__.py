"""Expectation and variance of each estimator's gradient, computed exactly for a policy that is small enough.

Imports `common`.
"""

"""Computes the cost of a configuration without a GPU: the work per step, the memory per GPU.

Imports `config` and `common`.
"""

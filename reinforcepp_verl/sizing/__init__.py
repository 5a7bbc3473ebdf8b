"""What a configuration costs, computed without a GPU: the work of one step, the memory of one GPU.

Imports `common`, `config`.
"""

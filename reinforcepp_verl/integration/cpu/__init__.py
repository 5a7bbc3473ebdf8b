"""Support for verl 0.9.1 and vLLM on a machine without an accelerator; has no effect on other machines.

Imports `common`.
"""

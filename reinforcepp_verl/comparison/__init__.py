"""Methods compared over seeds: suites, their cells, the table of results, and its statistics.

Imports `report`, `runs`, `config`, `algorithm`, `common`.
"""

"""Names what went wrong in a run, or may, from its recorded metrics: rules, each with evidence, cause and remedy.

`rule.py` applies them to the curves of `measured.py`. Imports `report`, `config` and `common`.
"""

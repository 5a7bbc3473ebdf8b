"""Everything this package adds to verl's configuration, verl's key names, and Hydra's search path.

Imports the options of `algorithm`, and `common`.
"""

"""Real data sets: load, convert, deduplicate and describe them. Imports `common`."""

"""A run's recorded metrics as arrays and as plots. Imports `config` and `common`."""

"""`reinforcepp report`: run folders as one HTML page without any other file. Imports `evaluation` and what is below."""

"""Helpers that every other folder may import. Imports none of them."""

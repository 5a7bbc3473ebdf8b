"""REINFORCE++ for verl, as a plugin. Importing this package imports nothing heavy, and not verl."""

__version__ = "0.1.0"

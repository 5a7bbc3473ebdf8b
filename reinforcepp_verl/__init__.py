"""REINFORCE++ for verl, delivered as a plugin. Importing this package imports nothing heavy and never verl."""

__version__ = "0.1.0"

"""Accuracy of generated answers: what a file of generations says, and how sure that is."""

"""REINFORCE++ as pure functions of tensors. Imports only torch; docs/algorithm.md follows the data through it."""

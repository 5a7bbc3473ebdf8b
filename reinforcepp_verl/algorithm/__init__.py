"""REINFORCE++ as pure functions of tensors. Imports only torch; docs/algorithm.md describes the data flow."""

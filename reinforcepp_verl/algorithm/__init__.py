"""The algorithm as pure functions of tensors, importing only torch; docs/algorithm.md follows its data through them."""

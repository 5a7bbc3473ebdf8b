"""References that multiply: a few lines of `${a}${a}` can expand to more text than fits into memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from reinforcepp_verl.config.schema import Tree

MOST_EXPANDED = 200_000
"""Characters and values of a key with its references expanded; ordinary ones have some hundreds."""
_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?\s*(\.*)([\w.\[\]-]+)")
_INDEX = re.compile(r"\.(\d+)(?=\.|$)")
_NAME = re.compile(r"[\w-]+")
_Path = tuple[str, ...]


def check(tree: Tree) -> list[str]:
    """Return the first key that would become too large, without expanding it."""
    sizes = _Sizes(tree)
    try:
        too_large = [path for path in sizes.with_references() if sizes.of(path) > MOST_EXPANDED]
    except RecursionError:
        return ["a reference refers to a reference, and so on, too many times; refer to the value itself"]
    names = [_INDEX.sub(r"[\1]", ".".join(path)) for path in too_large[:1]]
    return [f"{name}: its references expand to more than {MOST_EXPANDED} characters; remove some" for name in names]


class _Sizes:
    """Upper bounds of expanded sizes, each computed once; what cannot be resolved counts as nothing."""

    def __init__(self, tree: Tree) -> None:
        self._nodes = dict(_nodes(tree))
        self._known: dict[_Path, int] = {}

    def with_references(self) -> list[_Path]:
        return [path for path, node in self._nodes.items() if isinstance(node, str) and "${" in node]

    def of(self, path: _Path) -> int:
        if path not in self._known:
            # What it has within itself is nothing: that is a cycle, which has an error of its own.
            self._known[path] = 0
            parts = _parts(self._nodes.get(path), path)
            self._known[path] = len(str(self._nodes.get(path, ""))) + sum(map(self.of, parts))
        return self._known[path]


def _nodes(node: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """Yield every node by its path: a text or number as it is, a mapping or list as the names in it."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if isinstance(node, dict):
        yield path, [str(name) for name in node]
        for name, content in node.items():
            yield from _nodes(content, (*path, str(name)))
    else:
        yield path, node


def _parts(node: Any, path: _Path) -> list[_Path]:
    """Return what a node consists of: the nodes in it, or those it refers to."""
    if isinstance(node, list):
        return [(*path, name) for name in node]
    # Each dot at the beginning of a reference leads one level up from the key itself.
    return [
        (*(path[: -len(dots)] if dots else ()), *_NAME.findall(name))
        for dots, name in _REFERENCE.findall(node if isinstance(node, str) else "")
    ]

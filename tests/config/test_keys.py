"""The keys of the configuration are named in one module, and each of them exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from ray.runtime_env import RuntimeEnv

import reinforcepp_verl
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.schema import dotted_keys, known_keys

PACKAGE = Path(reinforcepp_verl.__file__).parent
NAMED = {name: key for name, key in vars(keys).items() if name.isupper()}
EXCEPTIONS = {
    "config/keys.py",
    # Imports only torch and the standard library.
    "algorithm/options.py",
    "algorithm/rollout_gate_options.py",
    "algorithm/batch.py",
    # Lists the removed keys of older verl versions.
    "preflight/legacy_keys.py",
}
# Their keys are the fields of our dataclasses.
OUR_NODES = {"REINFORCEPP", "GUARDS", "REWARD_ERRORS", "SAMPLES", "REWARD_KWARGS", "SAMPLER_KWARGS"}
DOTTED = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.\w+)+")


def test_every_key_exists() -> None:
    """A key that verl renames fails here, and so does one that Ray renames, to which verl passes runtime_env."""
    known = set(dotted_keys(known_keys())) | {f"{keys.RUNTIME_ENV}.{field}" for field in RuntimeEnv.known_fields}
    assert [f"{name} = {key}" for name, key in NAMED.items() if key not in known] == []


def test_no_key_has_two_names() -> None:
    assert len(set(NAMED.values())) == len(NAMED)


def test_every_name_is_used() -> None:
    """As `keys.NAME`, in another key, or by reading `config.trainer.nnodes`."""
    modules = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    nodes = [node for tree in modules.values() for node in ast.walk(tree)]
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "keys"}
    here = modules[PACKAGE / "config" / "keys.py"]
    used |= {node.id for node in ast.walk(here) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    read = {key for tree in modules.values() for _, key in _attributes(tree)}
    assert [name for name, key in NAMED.items() if name not in used and key not in read] == []


def test_no_key_is_spelled_out_elsewhere() -> None:
    known = {key for key in dotted_keys(known_keys()) if "." in key}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {key}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if str(path.relative_to(PACKAGE)) not in EXCEPTIONS
        for line, text in _texts(ast.parse(path.read_text(encoding="utf-8")))
        for key in DOTTED.findall(text)
        if key in known
    ]
    assert not found, "name them in config/keys.py: " + ", ".join(found)


def test_no_value_is_read_by_another_name() -> None:
    """`config.trainer.nnodes` is a key too: it must be one of those that test_every_key_exists looks up."""
    known = set(dotted_keys(known_keys()))
    nodes = {key.rpartition(".")[0] for key in known}
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {key}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, key in _attributes(ast.parse(path.read_text(encoding="utf-8")))
        if key in known - nodes and key not in NAMED.values()
    ]
    assert not found, "name them in config/keys.py: " + ", ".join(found)


def _attributes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what is read from a variable `config` or `self.config`, such as trainer.nnodes."""
    whole = re.compile(r"(?:self\.)?config\.([\w.]+)")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (match := whole.fullmatch(ast.unparse(node))):
            yield node.lineno, match[1]


def _texts(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the string literals of a module with their lines, including those in f-strings, without its docstrings."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            continue
        if isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.lineno, child.value
        if isinstance(child, ast.JoinedStr):
            yield from ((child.lineno, text) for text in _continued(child))
        yield from _texts(child)


def _continued(text: ast.JoinedStr) -> Iterator[str]:
    """Yield the keys that an f-string builds from a shorter one, such as `{keys.ACTOR}.optim`."""
    for part, following in pairwise(text.values):
        value = part.value if isinstance(part, ast.FormattedValue) else None
        if not isinstance(value, ast.Attribute) or value.attr not in NAMED or value.attr in OUR_NODES:
            continue
        if isinstance(following, ast.Constant) and (rest := re.match(r"(?:\.\w+)+", str(following.value))):
            yield NAMED[value.attr] + rest[0]

"""Write hydra_configs/reinforcepp/*.yaml from the dataclasses of our config nodes: fields, defaults and docstrings.

With --check it writes nothing, prints what would change and exits with 1 if something would. `make nodes` runs it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from reinforcepp_verl.config.search_path import TYPED_NODES

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "hydra_configs" / "reinforcepp"
WIDTH = 120


def text_of(name: str, node: type) -> str:
    """Return the YAML file of a node."""
    source = Path(inspect.getsourcefile(node) or "").relative_to(ROOT)
    head = [
        *comment(inspect.cleandoc(node.__doc__ or "")),
        f"# Written by `make nodes` from {source}; change it there.",
        *("defaults:", f"  - {name}_schema", "  - _self_"),
    ]
    defaults, documented = vars(node()), dict(docstrings(node))
    keys = [["", *comment(documented[key]), f"{key}: {as_yaml(default)}"] for key, default in defaults.items()]
    return "\n".join([*head, *(line for lines in keys for line in lines)]) + "\n"


def docstrings(node: type) -> Iterator[tuple[str, str]]:
    """Yield each field of a dataclass with the docstring below it."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(node))).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
                sys.exit(f"{node.__name__}.{field.target.id}: write its docstring below it")
            yield field.target.id, inspect.cleandoc(str(below.value.value))


def comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def as_yaml(default: Any) -> str:
    return yaml.safe_dump(default, default_flow_style=True, width=WIDTH).removesuffix("\n").removesuffix("\n...")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print what would change, and write nothing")
    check, changed = parser.parse_args().check, False
    for name, node in TYPED_NODES.items():
        file, text = FOLDER / f"{name}.yaml", text_of(name, node)
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        changed |= text != before
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(before.splitlines(True), text.splitlines(True), file.name, "new")
            )
        else:
            file.write_text(text, encoding="utf-8")
    sys.exit(check and changed)


if __name__ == "__main__":
    main()

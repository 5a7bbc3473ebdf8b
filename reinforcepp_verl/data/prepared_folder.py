"""The folder that a prepared data set fills: written aside, moved into place whole, and never over a stranger's."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

PRODUCT = "reinforcepp-data"
MANIFEST, PICTURE = "manifest.json", "summary.png"
CONTENTS = frozenset({"train.parquet", "test.parquet", PICTURE, MANIFEST})


def existing_manifest(out: Path) -> dict[str, Any] | None:
    """Return the manifest of a complete product at `out`, None where there is none; refuse what is not ours."""
    manifest = owned_manifest(out, PRODUCT, CONTENTS)
    return manifest if manifest is not None and all((out / name).exists() for name in manifest["files"]) else None


def owned_manifest(out: Path, product: str, contents: Set[str]) -> dict[str, Any] | None:
    """Return the manifest at `out`, None where there is nothing; refuse a folder that is not wholly `product`'s."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder that is new, empty or made by this command")
    names = {path.name for path in out.iterdir()}
    if not names:
        return None
    manifest = _read(out / MANIFEST)
    if manifest.get("product") != product or names - contents:
        strange = ", ".join(sorted(names - contents)) or "files without our manifest.json"
        raise ValueError(f"{out} holds {strange}: choose a folder that is new, empty or made by this command")
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, which makes the folder a complete product."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; nothing where there is none, or another thing, as only a stranger has."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

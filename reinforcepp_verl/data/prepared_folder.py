"""The folder of a prepared data set: it is replaced atomically, and other contents are never overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

PRODUCT = "reinforcepp-data"
MANIFEST_FILE, PICTURE_FILE = "manifest.json", "summary.png"
CONTENTS = frozenset({"train.parquet", "test.parquet", PICTURE_FILE, MANIFEST_FILE})


def existing_manifest(out: Path, product: str = PRODUCT, contents: Set[str] = CONTENTS) -> dict[str, Any] | None:
    """Return the manifest of a complete data set at `out`, None if there is none; refuse other contents."""
    manifest = owned_manifest(out, product, contents)
    return manifest if manifest is not None and all((out / name).exists() for name in manifest["files"]) else None


def refuse_different(out: Path, present: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuse to replace or reuse data at `out` that was prepared with other options."""
    if differing := [key for key, value in identity.items() if present.get(key) != value]:
        raise ValueError(
            f"{out} holds {present['task']}, prepared with a different {', '.join(differing)}; "
            "choose another --out, or replace it with --force"
        )


def owned_manifest(out: Path, product: str, contents: Set[str]) -> dict[str, Any] | None:
    """Return the manifest at `out`, None if there is nothing; refuse a folder with files that are not `product`'s."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder that is new, empty or made by this command")
    names = {path.name for path in out.iterdir()}
    if not names:
        return None
    manifest = _read(out / MANIFEST_FILE)
    if manifest.get("product") != product or names - contents:
        strange = ", ".join(sorted(names - contents)) or "files without our manifest.json"
        raise ValueError(f"{out} holds {strange}: choose a folder that is new, empty or made by this command")
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, which marks the folder as complete."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} if there is none, so the file is not ours."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

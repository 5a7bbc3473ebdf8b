"""The exported folder: when it may be written, and its export.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reinforcepp_verl.common import durable

PRODUCT = "reinforcepp-export"
MANIFEST_FILE = "export.json"


def refuse_unless_free(out: Path, force: bool) -> None:
    """Allow writing to `out` only if it is new or empty or, with `force`, holds only an earlier export.

    Raises:
        ValueError: `out` has other contents
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out} is a file: choose a folder that is new or empty")
    names = _files(out)
    if not names:
        return
    strange = sorted(names - _exported(out / MANIFEST_FILE))
    if strange:
        raise ValueError(f"{out} has files of other origin ({strange[0]}): choose a folder that is new or empty")
    if not force:
        raise ValueError(f"{out} holds an earlier export: replace it with --force, or choose another folder")


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write export.json: `facts`, and the names of the other files."""
    manifest = {"product": PRODUCT, **facts, "files": sorted({*_files(folder), MANIFEST_FILE})}
    durable.write(folder / MANIFEST_FILE, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def _exported(manifest: Path) -> set[str]:
    """Return the files listed in an export.json; empty if there is none."""
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    if not isinstance(content, dict) or content.get("product") != PRODUCT or not isinstance(content.get("files"), list):
        return set()
    return set(map(str, content["files"]))

"""manifest.json and COMPLETE: what a checkpoint consists of, and the proof that all of it was written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import xxhash

from reinforcepp_verl.common import durable

MANIFEST, COMPLETE = "manifest.json", "COMPLETE"
CHUNK_BYTES = 16 * 2**20
READERS = min(8, os.cpu_count() or 1)


class DamagedCheckpointError(ValueError):
    """A checkpoint that is not whole, or not as it was written; the message says which file and why."""


@dataclass(frozen=True)
class Manifest:
    """The fields of manifest.json."""

    step: int
    """Training steps done."""
    world_size: int
    """FSDP workers, and shards."""
    seed: int | None
    """The configured `seed`."""
    config_digest: str
    """XXH3-128 of the checkpoint's config.yaml."""
    data: dict[str, str]
    """Each training file with the XXH3-128 of its content."""
    versions: dict[str, str]
    """The packages that wrote it."""
    files: dict[str, dict[str, int | str]]
    """Each file by its path in the checkpoint: `bytes` and `xxh3_128`."""


def digest(path: Path) -> str:
    """Return the XXH3-128 of a file: it finds damage, it does not keep out forgers."""
    state = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def digests(paths: Iterable[Path]) -> list[str]:
    """Return the digests of several files, which are read side by side."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(digest, paths))


def describe_files(folder: Path) -> dict[str, dict[str, int | str]]:
    """Sync every file under `folder` to the disk and describe it; a manifest and its marker do not count."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, COMPLETE))
    for path in [*files, *(path for path in folder.rglob("*") if path.is_dir()), folder]:
        durable.sync(path)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "xxh3_128": value}
        for path, value in zip(files, digests(files), strict=True)
    }


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and then, last of all, the marker, which holds the manifest's digest."""
    durable.write(folder / MANIFEST, (json.dumps(asdict(manifest), indent=1) + "\n").encode())
    durable.write(folder / COMPLETE, (digest(folder / MANIFEST) + "\n").encode())


def read(folder: Path) -> Manifest:
    """Return the manifest of a sealed checkpoint.

    Raises:
        DamagedCheckpointError: the marker is missing, or belongs to another manifest
    """
    marker, path = folder / COMPLETE, folder / MANIFEST
    if not marker.is_file() or not path.is_file():
        raise DamagedCheckpointError(f"{folder}: no {COMPLETE} marker, so it was not saved to the end")
    if marker.read_bytes().strip() != digest(path).encode():
        raise DamagedCheckpointError(f"{path} is not the one that {COMPLETE} was written for")
    try:
        return Manifest(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise DamagedCheckpointError(f"{path}: written by another version of this package ({error})") from error


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest, the sizes first because that is quick.

    Raises:
        DamagedCheckpointError: a file is missing, has another size or another content
    """
    paths = {folder / name: entry for name, entry in manifest.files.items()}
    for path, entry in paths.items():
        if not path.is_file():
            raise DamagedCheckpointError(f"{path} is missing")
        if path.stat().st_size != entry["bytes"]:
            raise DamagedCheckpointError(f"{path} has {path.stat().st_size} bytes, not {entry['bytes']}")
    for (path, entry), found in zip(paths.items(), digests(paths), strict=True):
        if found != entry["xxh3_128"]:
            raise DamagedCheckpointError(f"{path} has changed since it was written")

"""manifest.json and COMPLETE: the contents of a checkpoint, and the proof that all of it was written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

import xxhash

from reinforcepp_verl.common import durable
from reinforcepp_verl.config.reading import is_count

Files: TypeAlias = Mapping[str, dict[str, int | str]]
"""Size and digest of each file, by its path in the checkpoint."""
MANIFEST, COMPLETE = "manifest.json", "COMPLETE"
CHUNK_BYTES = 16 * 2**20
DIGEST_THREADS = min(8, os.cpu_count() or 1)


class DamagedCheckpointError(ValueError):
    """A checkpoint that is incomplete or has changed since it was written; the message names the file and why."""


@dataclass(frozen=True)
class Manifest:
    """The fields of manifest.json."""

    step: int
    """Number of training steps done."""
    world_size: int
    """Number of FSDP workers and of shards."""
    seed: int | None
    """The configured `seed`."""
    data: dict[str, str]
    """XXH3-128 of the content of each training file."""
    versions: dict[str, str]
    """Versions of the packages that wrote it."""
    files: Files
    """`bytes` and `xxh3_128` of each file, by its path in the checkpoint."""


def digest(path: Path) -> str:
    """Return the XXH3-128 of a file; it detects damage but does not protect against tampering."""
    state = xxhash.xxh3_128()
    with durable.naming(path), path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            state.update(chunk)
    return state.hexdigest()


def digests(paths: Iterable[Path]) -> list[str]:
    """Return the digests of several files, read in parallel."""
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        return list(pool.map(digest, paths))


def files_of(folder: Path) -> list[Path]:
    """Return the files that a manifest describes: all but itself and its marker."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, COMPLETE))


def describe(files: Sequence[Path], folder: Path) -> Files:
    """Sync files of a checkpoint to disk and describe them."""
    for path in files:
        durable.sync(path)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "xxh3_128": value}
        for path, value in zip(files, digests(files), strict=True)
    }


def describe_files(folder: Path, known: Files = MappingProxyType({})) -> Files:
    """Sync everything under `folder` to disk and describe its files; `known` ones have been described before."""
    described = describe(
        [file for file in files_of(folder) if file.relative_to(folder).as_posix() not in known], folder
    )
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        durable.sync(path)
    return {**known, **described}


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and then the marker, which contains the manifest's digest."""
    durable.write(folder / MANIFEST, (json.dumps(asdict(manifest), indent=1) + "\n").encode())
    durable.write(folder / COMPLETE, (digest(folder / MANIFEST) + "\n").encode())


def read(folder: Path) -> Manifest:
    """Return the manifest of a sealed checkpoint.

    Raises:
        DamagedCheckpointError: the marker is missing or belongs to another manifest, or the manifest to another folder
    """
    marker, path = folder / COMPLETE, folder / MANIFEST
    if not marker.is_file() or not path.is_file():
        raise DamagedCheckpointError(f"{folder}: no {COMPLETE} marker, so the save did not finish")
    if marker.read_bytes().strip() != digest(path).encode():
        raise DamagedCheckpointError(f"{path} has changed since {COMPLETE} was written")
    try:
        found = Manifest(**json.loads(path.read_bytes()))
        _check_types(found)
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path}: not a manifest of this version of the package ({error})") from error
    if (name := f"global_step_{found.step}") != folder.resolve().name:
        raise DamagedCheckpointError(f"{path} is that of {name}: the folder was renamed, or the file copied")
    return found


def _check_types(manifest: Manifest) -> None:
    """Raise TypeError if a field that is relied on has another type."""
    entries = manifest.files.values() if isinstance(manifest.files, dict) else [None]
    described = all(isinstance(entry, dict) and {"bytes", "xxh3_128"} <= entry.keys() for entry in entries)
    if not (described and isinstance(manifest.data, dict) and all(map(is_count, (manifest.step, manifest.world_size)))):
        raise TypeError("a field has another type")


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest, sizes first because that is fast.

    Raises:
        DamagedCheckpointError: a file is missing, or its size or content differs
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

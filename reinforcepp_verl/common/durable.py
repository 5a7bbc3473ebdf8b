"""Atomic, crash-safe file writes: written under a temporary name, synced, renamed. Errors of the disk name the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write `content`, whole or in parts, to `path` atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    with naming(path):
        try:
            with temporary.open("wb") as stream:
                stream.writelines([content] if isinstance(content, bytes) else content)
            sync(temporary)
            os.replace(temporary, path)
        except OSError:
            # A full disk needs the space.
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def append(path: Path, content: bytes) -> None:
    """Add `content` to the end of a file, and sync it."""
    with naming(path), path.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def rename(source: Path, target: Path) -> None:
    """Move a file or folder to a name that does not exist yet, both on one file system."""
    source.rename(target)
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path` to an error of the disk: that of a write or a read names no file, unlike that of an open."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise

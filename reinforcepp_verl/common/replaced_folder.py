"""Atomic replacement of a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replace_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces `out` at the end. On an error `out` stays unchanged."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        made, old = Path(scratch, "made"), Path(scratch, "old")
        made.mkdir()
        yield made
        try:
            if out.exists():
                out.rename(old)
            made.rename(out)
        except BaseException:
            # Also on a signal: the scratch folder is deleted with everything in it.
            if old.exists() and not out.exists():
                old.rename(out)
            raise

"""A folder that is replaced as a whole, or stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give an empty folder to fill; at the end it becomes `out`, unless there was an error: then `out` is as before."""
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
            # Even a signal: what stays in the scratch folder is deleted.
            if old.exists() and not out.exists():
                old.rename(out)
            raise

"""Reads the rows of a source with the `datasets` library, from the hub or from local files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub.utils import logging as hub_logging

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.data import file_formats
from reinforcepp_verl.data.source_kinds import TEST, TRAIN, Source
from reinforcepp_verl.data.sources import SOURCES

CHUNK_BYTES = 2**20
_NAMES_A_SPLIT = re.compile(r"(?<![a-z])(?:train|test|val|valid|validation|dev|eval)(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Split:
    """The rows of one split, read lazily; `origin` is its name in messages."""

    origin: str
    files: tuple[Path, ...] = ()
    table: Any = field(default=(), repr=False)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows, in the order of the source; a file that cannot be read is a ValueError."""
        try:
            for file in self.files:
                yield from file_formats.rows(file)
        except Exception as error:  # pyarrow and datasets raise many kinds
            encoding = "save it as UTF-8" if isinstance(error, UnicodeError) else "write it again"
            raise ValueError(f"{file} cannot be read ({first_line(error)}); {encoding}") from error
        yield from self.table


def load(source: Source, origin: str | None) -> dict[str, Split]:
    """Return the splits of a source, from its own hub id or from `origin`: a file, a folder or another hub id."""
    if origin is None:
        return _from_hub(source, source.hub)
    path = Path(origin).expanduser()
    if path.exists():
        return _from_files(source, path)
    if (
        re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?(@[\w./-]+)?", origin)
        and file_formats.format_of(path) is None
        and origin[0] not in "./"
    ):
        return _from_hub(source, origin)
    raise ValueError(f"--source: no such file or folder: {origin}; correct it, or give a hub id OWNER/NAME")


def identify(source: Source, origin: str | None) -> dict[str, Any]:
    """Return what identifies an input: the checksums of local files, or the id and revision on the hub."""
    if origin is None or not (path := Path(origin).expanduser()).exists():
        return {"hub": origin or source.hub}
    root = path if path.is_dir() else path.parent
    files = chain.from_iterable(split.files for split in load(source, origin).values())
    return {"files": {file.relative_to(root).as_posix(): checksum(file) for file in files}}


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _from_hub(source: Source, hub: str) -> dict[str, Split]:
    """Download a data set, or take it from the cache of `datasets`; a subset follows `:` and a revision `@`."""
    place, _, revision = hub.partition("@")
    name, _, asked = place.partition(":")
    subset = asked or (source.subset if name == source.hub else None)
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # otherwise it warns about each retry
    try:
        tables: Mapping[str, Any] = datasets.load_dataset(name, subset, revision=revision or None)
    except Exception as error:  # no network, no such data set, a gated one, no such subset
        also = "" if source.name in SOURCES and name == source.hub else " is not a local file or folder, and"
        raise ValueError(
            f"{source.name}: {name}{also} cannot be loaded from the hub ({first_line(error)}); without a network, "
            f"download it elsewhere (hf download --repo-type dataset {name} --local-dir DIR), copy it here and add "
            "--source DIR"
        ) from error
    finally:
        hub_logging.set_verbosity(verbosity)
    splits = {
        split: Split(f"{hub}, split {found}", table=tables[found])
        for split, names in source.splits.items()
        if (found := next((name for name in names if name in tables), None))
    }
    return _complete(source, splits, hub, list(tables))


def _from_files(source: Source, path: Path) -> dict[str, Split]:
    files = _files(source, path)
    if not files:
        what = "is not a file" if path.is_file() else "has no file"
        raise ValueError(f"--source: {path} {what} that ends in {file_formats.ENDINGS}; give another --source")
    taken = {split: _named(files, names) for split, names in source.splits.items()}
    of_one_split = min(len(source.splits), len(files)) == 1
    if not any(taken.values()) and (of_one_split or not any(_NAMES_A_SPLIT.search(file.name) for file in files)):
        taken = {next(iter(source.splits)): files}  # no file name contradicts it
    splits = {split: Split(_shown(paths), tuple(paths)) for split, paths in taken.items() if paths}
    return _complete(source, splits, str(path), [file.name for file in files])


def _files(source: Source, path: Path) -> list[Path]:
    """Return the data files, sorted by name; in a folder with the hub's layout, those of the source's subset."""
    if path.is_file():
        return [path] if file_formats.format_of(path) else []
    root = next((path / name for name in (source.subset, "data") if name and (path / name).is_dir()), path)
    found = (file for file in root.rglob("*") if file_formats.format_of(file) and file.is_file())
    visible = (file for file in found if not any(part.startswith(".") for part in file.relative_to(root).parts))
    return sorted(visible)


def _named(files: Sequence[Path], names: Sequence[str]) -> list[Path]:
    """Return the files of the first split name that matches any: `train`, `my-train`, `train-00000-of-00002`."""
    for name in names:
        pattern = re.compile(rf"(?:.*[-_.])?{re.escape(name)}(?:-\d+-of-\d+)?(?:-[0-9a-f]{{16}})?")
        if named := [file for file in files if pattern.fullmatch(file_formats.stem(file))]:
            return named
    return []


def _shown(files: Sequence[Path]) -> str:
    return str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"


def _complete(source: Source, splits: dict[str, Split], place: str, there: Sequence[str]) -> dict[str, Split]:
    """Return the splits, test first; a source with a training split must have rows for it."""
    needed = TRAIN if TRAIN in source.splits else TEST
    if needed not in splits:
        wanted = " or ".join(source.splits[needed])
        raise ValueError(
            f"{source.name}: {place} has no split {wanted}, only {', '.join(there)}; rename, or give another --source"
        )
    return {split: splits[split] for split in (TEST, TRAIN) if split in splits}

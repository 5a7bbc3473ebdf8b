"""Prepares a source: reads, converts, deduplicates and writes it, with a manifest and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
from transformers.utils import logging as transformers_logging

from reinforcepp_verl.common.replaced_folder import replace_folder
from reinforcepp_verl.common.terminal import SafeConsole
from reinforcepp_verl.config import keys
from reinforcepp_verl.data import data_summary, held_out, loading, overlap, prompt_templates
from reinforcepp_verl.data.conversion import Conversion
from reinforcepp_verl.data.custom_source import TASK as CUSTOM
from reinforcepp_verl.data.custom_source import CustomQuestions, custom_source
from reinforcepp_verl.data.loading import Split
from reinforcepp_verl.data.overlap import RowFilter
from reinforcepp_verl.data.prepared_folder import (
    PICTURE_FILE,
    PRODUCT,
    existing_manifest,
    refuse_different,
    write_manifest,
)
from reinforcepp_verl.data.prompt_templates import Template
from reinforcepp_verl.data.rows import WRITER, Row, to_table, with_uniform_truths
from reinforcepp_verl.data.source_kinds import TEST, TRAIN, Questions, Source
from reinforcepp_verl.data.sources import SOURCES

VERSION = 1
SEED = 1
Collected = tuple[list[Row], dict[str, Any]]
NOTHING_READ: dict[str, Any] = {
    "read": 0,
    "unusable": {},
    "duplicates": 0,
    "disagreeing": 0,
    "overlap": 0,
    "overlap_kept": False,
    "first_overlap": None,
}


@dataclass(frozen=True)
class Request:
    """What to prepare, from where, and how."""

    source: Source
    origin: str | None
    template: Template
    against: tuple[Path, ...]
    keep_overlap: bool
    max_unusable: float
    tokenizer: Path | None
    val_size: float | None
    seed: int

    def identity(self) -> dict[str, Any]:
        """Return everything that the files depend on, except the contents of the hub."""
        return {
            "product": PRODUCT,
            "version": VERSION,
            "task": self.source.name,
            **self._own(),
            "source": loading.identify(self.source, self.origin),
            "template": asdict(self.template),
            "against": [loading.checksum(overlap.test_file(path)) for path in self.against],
            "keep_overlap": self.keep_overlap,
            "max_unusable": self.max_unusable,
            "unit": data_summary.unit(self.tokenizer),
        }

    def _own(self) -> dict[str, Any]:
        """Return the options of a user's own source."""
        if not isinstance(self.source, CustomQuestions):
            return {}
        columns = {"name": self.source.data_source, "question": self.source.question, "answer": self.source.answer}
        return columns | {"val_size": self.val_size, "seed": self.seed}


def request(
    task: str,
    *,
    source: str | None = None,
    columns: Mapping[str, str] | None = None,
    template: str | None = None,
    system: str | None = None,
    against: Sequence[Path] = (),
    keep_overlap: bool = False,
    max_unusable: float | None = None,
    tokenizer: Path | None = None,
    val_size: float | None = None,
    seed: int = SEED,
) -> Request:
    """Check that the options are compatible and return the request; `columns` are those of `custom_source`."""
    entry = custom_source(source, **(columns or {})) if task == CUSTOM else SOURCES[task]
    limit = entry.max_unusable if max_unusable is None else max_unusable
    if not 0 <= limit <= 1:
        raise ValueError(f"--max-unusable is {limit}: it must be between 0 and 1")
    if (against or keep_overlap) and TRAIN not in entry.splits:
        raise ValueError(f"{task} is an evaluation set without training rows: remove --against and --keep-overlap")
    if val_size is not None:
        held_out.check_size(val_size)
    filled = _template(entry, template, system)
    return Request(entry, source, filled, tuple(against), keep_overlap, limit, tokenizer, val_size, seed)


def _template(source: Source, name: str | None, system: str | None) -> Template:
    """Return the template of that name, or the source's own, with the system message."""
    default = source.template if isinstance(source, Questions) else prompt_templates.BARE
    if name is not None and not isinstance(source, Questions):
        raise ValueError(f"--template: {source.name} holds whole chats, which need no template; remove it")
    template = prompt_templates.find(name or default)
    if system is None:
        return template
    if template.system is not None:
        raise ValueError(f"--system: the template {template.name} has a system message already; remove one of them")
    return replace(template, system=system)


def prepare(request: Request, out: Path, *, force: bool = False) -> dict[str, Any]:
    """Write OUT/{train.parquet,test.parquet,summary.png,manifest.json} and return the manifest.

    If `out` already holds the same data, it is kept unless `force`. Other data of this command is replaced only with
    `force`, and other contents never.
    """
    out = out.resolve()
    present = existing_manifest(out)
    asked = frozenset[bytes]().union(*(overlap.questions_of(path) for path in request.against))
    length_of = data_summary.length_in(request.tokenizer)
    identity = request.identity()
    if present is not None and not force:
        refuse_different(out, present, identity)
        return present
    with replace_folder(out) as folder:
        return _make(folder, request, identity, asked, length_of)


def prepare_command(task: str, out: Path, *, force: bool = False, **options: Any) -> None:
    """Run `prepare` in a terminal and print its summary."""
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # It logs what it raises.
    transformers_logging.disable_progress_bar()
    console = SafeConsole()
    with console.status(f"preparing {task}"):
        manifest = prepare(request(task, **options), out, force=force)
    console.print(data_summary.table(manifest, out))
    for split, numbers in manifest["splits"].items():
        if numbers["overlap"]:
            example = f"such as {numbers['first_overlap']!r}"
            console.print(f"{split} has questions of an evaluation set, {example}", markup=False, soft_wrap=True)
    settings = {TRAIN: keys.TRAIN_FILES, TEST: keys.VAL_FILES}
    overrides = " ".join(f"{settings[split]}={out / split}.parquet" for split in manifest["splits"])
    console.print(f"picture: {out / PICTURE_FILE}\nuse with: {overrides}", markup=False, soft_wrap=True)


def _make(
    folder: Path,
    request: Request,
    identity: dict[str, Any],
    asked: frozenset[bytes],
    length_of: data_summary.LengthFunction,
) -> dict[str, Any]:
    """Write everything into the new folder, the manifest last."""
    splits, profiles = {}, {}
    for name, (rows, counts) in _collect_all(request, asked).items():
        pq.write_table(to_table(rows, request.source.schema), folder / f"{name}.parquet", **WRITER)
        profiles[name] = data_summary.profile(rows, length_of)
        splits[name] = counts | profiles[name].numbers()
    order = [name for name in (TRAIN, TEST) if name in splits]
    data_summary.plot(
        {name: profiles[name] for name in order},
        request.source.name,
        data_summary.unit(request.tokenizer),
        folder / PICTURE_FILE,
    )
    files = {file.name: loading.checksum(file) for file in sorted(folder.iterdir())}
    manifest = {**identity, "splits": {name: splits[name] for name in order}, "files": files}
    write_manifest(folder, manifest)
    return manifest


def _collect_all(request: Request, asked: frozenset[bytes]) -> dict[str, Collected]:
    """Return the rows and counts of every split; those of a test split that is split off come from the training set."""
    found = loading.load(request.source, request.origin)
    if request.val_size is not None and TEST in found:
        raise ValueError(
            f"--val-size: {request.origin} has a validation split, {found[TEST].origin}; remove --val-size"
        )
    collected = {}
    for name, split in found.items():
        training = name == TRAIN
        row_filter = RowFilter(asked if training else frozenset(), request.keep_overlap, drop_duplicates=training)
        collected[name] = _collect(name, split, request, row_filter)
        asked |= row_filter.questions if name == TEST else frozenset()
    if request.val_size is None:
        return collected
    rows, counts = collected[TRAIN]
    remaining, moved = held_out.split_off(rows, request.val_size, request.seed)
    number = {"split_off": len(moved)}
    return {
        TRAIN: (remaining, counts | number | {"rows": len(remaining)}),
        TEST: (moved, NOTHING_READ | number | {"rows": len(moved)}),
    }


def _collect(name: str, split: Split, request: Request, row_filter: RowFilter) -> Collected:
    """Return the rows of a split to write, and the counts of all others."""
    conversion = Conversion(request.source, name, request.template)
    rows = with_uniform_truths(list(row_filter.rows(conversion.rows(split))))
    conversion.check(split, request.max_unusable)
    if not rows:
        raise ValueError(
            f"{request.source.name}: every row of {split.origin} is also in an evaluation set; give another --source"
        )
    return rows, {
        "read": conversion.read,
        "unusable": dict(sorted(conversion.unusable.items())),
        "duplicates": row_filter.duplicates,
        "disagreeing": row_filter.disagreeing,
        "overlap": row_filter.overlap,
        "overlap_kept": row_filter.keep_overlap,
        "first_overlap": row_filter.first_overlap,
        "rows": len(rows),
    }

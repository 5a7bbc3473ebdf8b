"""Creates the folder of a toy task (questions and a warm-started model) unless it exists, and shows the progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from transformers.utils import logging as transformers_logging

from reinforcepp_verl.common.replaced_folder import replace_folder
from reinforcepp_verl.common.terminal import SafeConsole
from reinforcepp_verl.data.prepared_folder import owned_manifest, write_manifest
from reinforcepp_verl.tasks.warm_start import Progress

Manifest = dict[str, Any]
Chat = list[dict[str, str]]


def make_once(
    out: Path, identity: Manifest, contents: Set[str], make: Callable[[Path], Manifest], *, force: bool
) -> Manifest:
    """Fill `out` with `make(folder)`, which returns facts for the manifest; return the manifest.

    An `out` that already holds the same product is kept unless `force`. The work is done in a temporary folder next to
    `out` and moved into place at the end.
    """
    out = out.resolve()
    present = owned_manifest(out, identity["product"], contents)
    complete = present is not None and all((out / name).exists() for name in contents)
    if present is not None and complete and not force and identity.items() <= present.items():
        return present
    with replace_folder(out) as folder:
        manifest = {**identity, **make(folder)}
        write_manifest(folder, manifest)
    return manifest


def write_questions(data_source: str, questions: Iterable[tuple[Chat, str]], split: str, path: Path) -> None:
    """Write chats and their answers in verl's schema; the same questions give the same bytes."""
    rows = [
        {
            "data_source": data_source,
            "prompt": chat,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": answer},
            "extra_info": {"split": split, "index": index},
        }
        for index, (chat, answer) in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def show(
    title: str,
    doing: str,
    steps: int,
    prepare: Callable[[Progress], Manifest],
    rows: Callable[[Manifest], dict[str, str]],
) -> None:
    """Run `prepare` under a progress bar of `steps`, then print `rows(manifest)` as a table."""
    transformers_logging.disable_progress_bar()
    console, start = SafeConsole(), time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(doing, total=steps)
        manifest = prepare(lambda done, total: bar.update(task, completed=done, total=total))
    table = Table(title=title, show_header=False)
    for name, value in rows(manifest).items():
        table.add_row(name, value)
    table.add_row("seed", str(manifest["seed"]))
    table.add_row("seconds", f"{time.perf_counter() - start:.1f}")
    console.print(table)

"""Writes the page, once or for as long as its runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.run_folder import RunFolder, refuse_run_file
from reinforcepp_verl.html_report.document import Document, build
from reinforcepp_verl.html_report.liveness import is_going_on
from reinforcepp_verl.report.panels import Panel
from reinforcepp_verl.runs.run_summary import read_summary

INTERVAL_S = 10.0


def write(runs: Sequence[Path], out: Path, extra: Sequence[Panel] = ()) -> Document:
    """Write the page of `runs` to `out` atomically.

    Raises:
        ValueError: `out` is a folder or a file of a run, or a folder of `runs` is not that of a run
    """
    refuse_run_file(out)
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file in it")
    document = build(runs, extra)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists() and not out.is_file():  # such as /dev/stdout
        out.write_bytes(document.html)
    else:
        durable.write(out.resolve(), document.html)
    return document


def follow(
    runs: Sequence[Path],
    out: Path,
    extra: Sequence[Panel] = (),
    *,
    interval_s: float = INTERVAL_S,
    wrote: Callable[[Document], None] = lambda document: None,
) -> Document:
    """Write the page again when a run has changed, at most every `interval_s`, until all have ended.

    Calls `wrote` each time.
    """
    while True:
        seen = _state(runs)
        document = write(runs, out, extra)
        wrote(document)
        if not document.going_on:
            return document
        time.sleep(interval_s)
        while (now := _state(runs)) == seen and any(going_on for _, going_on in now):
            time.sleep(interval_s)


def _state(runs: Sequence[Path]) -> list[tuple[list[tuple[int, int]], bool]]:
    """Return size and time of the files of each run that the page is made of, and whether it goes on."""
    folders = [RunFolder(run) for run in runs]
    return [(_stamps(run), is_going_on(run, read_summary(run.summary).get("status"))) for run in folders]


def _stamps(run: RunFolder) -> list[tuple[int, int]]:
    files = (run.summary, run.metrics, run.config, run.validation, run.samples)
    return [(stat.st_size, stat.st_mtime_ns) for file in files if file.exists() and (stat := file.stat())]

"""Creates the folder of a toy task (questions and a warm-started model) unless it exists, and shows the progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from transformers.utils import logging as transformers_logging

from reinforcepp_verl.common.replaced_folder import replace_folder
from reinforcepp_verl.common.terminal import SafeConsole
from reinforcepp_verl.data.prepared_folder import owned_manifest, write_manifest
from reinforcepp_verl.tasks.warm_start import Progress

Manifest = dict[str, Any]


class Settings(Protocol):
    """What a task's models are trained with: a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def steps(self) -> int:
        """Maximum number of training steps."""


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class ToyTask(Generic[S]):
    """A task that `reinforcepp prepare` generates; the same seed and settings give the same bytes."""

    product: str
    version: int
    title: str
    doing: str
    """What the progress bar says."""
    contents: Set[str]
    """Names of all files and folders in the task's folder."""
    settings: Callable[[], S]
    make: Callable[[Path, int, S, Progress | None], Manifest]
    """Writes everything but the manifest into a new folder, and returns facts for the manifest."""
    summary: Callable[[Manifest], dict[str, str]]
    """Returns the manifest as rows of a table."""

    def prepare(
        self,
        out: Path,
        seed: int = 1,
        *,
        force: bool = False,
        settings: S | None = None,
        progress: Progress | None = None,
    ) -> Manifest:
        """Create the folder `out` unless it already holds the same, or `force`; return its manifest.

        The work is done in a temporary folder next to `out` and moved into place at the end.
        """
        chosen = settings or self.settings()
        identity = {"product": self.product, "version": self.version, "seed": seed, "settings": asdict(chosen)}
        out = out.resolve()
        present = owned_manifest(out, self.product, self.contents)
        complete = present is not None and all((out / name).exists() for name in self.contents)
        if present is not None and complete and not force and identity.items() <= present.items():
            return present
        with replace_folder(out) as folder:
            manifest = {**identity, **self.make(folder, seed, chosen, progress)}
            write_manifest(folder, manifest)
        return manifest

    def show(self, out: Path, seed: int = 1, force: bool = False) -> None:
        """Run `prepare` in a terminal: a progress bar, then a summary table."""
        transformers_logging.disable_progress_bar()
        console, start = SafeConsole(), time.perf_counter()
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
        with Bar(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
            task = bar.add_task(self.doing, total=self.settings().steps)

            def report(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            manifest = self.prepare(out, seed, force=force, progress=report)
        table = Table(title=f"{self.title} in {out}", show_header=False)
        for name, value in self.summary(manifest).items():
            table.add_row(name, value)
        table.add_row("seed", str(manifest["seed"]))
        table.add_row("seconds", f"{time.perf_counter() - start:.1f}")
        console.print(table)

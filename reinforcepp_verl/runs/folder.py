"""The folder of one run: its files, a name that is never used twice, and the `latest` link."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

LATEST = "latest"


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a step: `step`, then verl's metric names."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """All output of verl, Ray and vLLM."""
        return self.path / "train.log"

    @property
    def tracker(self) -> Path:
        """What verl's `file` logger writes; `metrics.jsonl` is made from it."""
        return self.path / "verl_metrics.jsonl"

    @property
    def failure(self) -> Path:
        """The exception that ended the training process."""
        return self.path / "failure.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def validation(self) -> Path:
        """The answers of each validation, one JSONL a step."""
        return self.path / "validation"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"


def create(root: Path, name: str) -> RunFolder:
    """Make a new folder under `root` and point `root/latest` to it.

    Two runs that start in the same second get different folders: `mkdir` decides, not a look beforehand.
    """
    root = root.expanduser().resolve()
    root.mkdir(parents=True, exist_ok=True)
    stem = f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
    for attempt in range(1, 1000):
        path = root / (stem if attempt == 1 else f"{stem}_{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        _point_latest_to(path)
        return RunFolder(path)
    raise RuntimeError(f"1000 folders named {stem} exist under {root}")


def _point_latest_to(path: Path) -> None:
    temporary = path.parent / f".{LATEST}-{os.getpid()}-{path.name}"
    temporary.symlink_to(path.name)
    os.replace(temporary, path.parent / LATEST)

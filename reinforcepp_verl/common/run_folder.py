"""The folder of a run and of its attempts: paths of their files, unique names, the `latest` link."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

LATEST = "latest"
ATTEMPT_VARIABLE = "REINFORCEPP_ATTEMPT"
"""Environment variable with the attempt's folder, set in every process of a run."""
TEMPORARY_PREFIX = "rpp-"
"""Begins the name of an attempt's folder for temporary files, and of the shared memory of its processes."""
_ATTEMPT = re.compile(r"attempt_(\d+)")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration of the next attempt."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object per step: `step`, then verl's metric names."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """Link to the output of the newest attempt."""
        return self.path / "train.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def validation(self) -> Path:
        """The answers of each validation, one JSONL file per step."""
        return self.path / "validation"

    @property
    def samples(self) -> Path:
        """Some prompts of each training step with their answers, one JSONL file per step."""
        return self.path / "samples"

    @property
    def evaluations(self) -> Path:
        """The evaluations of its checkpoints, each in a folder that has a run's layout."""
        return self.path / "evaluations"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def warnings(self) -> Path:
        """The preflight's warnings about config.yaml, one per line; the file exists only if there are warnings."""
        return self.path / "warnings.txt"

    @property
    def stop(self) -> Path:
        """If this file exists, the run finishes its step, saves and ends."""
        return self.path / "STOP"

    @property
    def lock(self) -> Path:
        """Held by the command that runs the newest attempt."""
        return self.path / ".lock"

    def attempts(self) -> list[Attempt]:
        """Return all attempts, oldest first."""
        found = (_ATTEMPT.fullmatch(path.name) for path in self.path.iterdir() if path.is_dir())
        numbers = sorted(int(name[1]) for name in found if name)
        return [Attempt(self.path / f"attempt_{number}") for number in numbers]

    def has_written(self, file: Path) -> bool:
        """Return True for a file of the run itself; others may be in its folder, such as a report."""
        own = {name for name, each in vars(type(self)).items() if isinstance(each, property)} - {"curves"}
        names = {getattr(self, name).name for name in own}
        first = file.relative_to(self.path).parts[0]
        return first in names or _ATTEMPT.fullmatch(first) is not None

    def configs(self) -> list[Path]:
        """Return where the run's configuration may be found: its own, then those of its attempts, newest first."""
        return [self.config, *(attempt.config for attempt in reversed(self.attempts()))]

    def new_attempt(self) -> Attempt:
        """Create the folder of the next attempt and point train.log to its output."""
        past = self.attempts()
        attempt = Attempt(self.path / f"attempt_{past[-1].number + 1 if past else 1}")
        attempt.path.mkdir()
        attempt.log.touch()
        _point(self.log, attempt.log.relative_to(self.path))
        return attempt


@dataclass(frozen=True)
class Attempt:
    """Paths of the files of one attempt, that is, one start of the run, from scratch or from a checkpoint."""

    path: Path

    @classmethod
    def of_this_process(cls) -> Attempt | None:
        """Return the attempt that this process belongs to; None if `reinforcepp` did not start it."""
        path = os.environ.get(ATTEMPT_VARIABLE)
        return cls(Path(path)) if path else None

    @property
    def number(self) -> int:
        return int(self.path.name.rpartition("_")[2])

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.path.parent)

    @property
    def config(self) -> Path:
        """The resolved configuration of this attempt."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """All output of verl, Ray and vLLM."""
        return self.path / "train.log"

    @property
    def tracker(self) -> Path:
        """Output of verl's `file` logger, from which the run's metrics.jsonl is written."""
        return self.path / "verl_metrics.jsonl"

    @property
    def temporary(self) -> Path:
        """Identifies the folder of what its processes write outside the run, while there is one."""
        return self.path / "temporary_folder"

    @property
    def ray_logs(self) -> Path:
        """The logs of Ray's own processes, if the attempt failed."""
        return self.path / "ray_logs"

    @property
    def failure(self) -> Path:
        """The exception that ended the training process."""
        return self.path / "failure.txt"

    @property
    def training(self) -> Path:
        """Exists once the startup is over and there is a step to finish."""
        return self.path / "training"

    @property
    def stopped(self) -> Path:
        """Exists if the training ended on request."""
        return self.path / "stopped"

    def stop_requested(self) -> bool:
        """Return True if the run was requested to stop."""
        return self.run.stop.exists()


def create(root: Path, name: str) -> RunFolder:
    """Create a new folder under `root` and point `root/latest` to it.

    Two runs that start in the same second get different folders, because `mkdir` fails for the second one.
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
        _point(root / LATEST, Path(path.name))
        return RunFolder(path)
    raise RuntimeError(f"1000 folders named {stem} exist under {root}")


def _point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, atomically; an existing link or file is replaced."""
    temporary = link.parent / f".{link.name}-{os.getpid()}-{target.name}"
    temporary.symlink_to(target)
    os.replace(temporary, link)


def refuse_run_file(file: Path) -> None:
    """Refuse to replace a file that a run has written.

    Raises:
        ValueError: a folder above it has the configuration and the metrics or the summary of a run
    """
    for folder in map(RunFolder, file.resolve().parents):
        is_run = folder.config.is_file() and (folder.metrics.is_file() or folder.summary.is_file())
        if is_run and file.exists() and folder.has_written(file.resolve()):
            raise ValueError(f"{file} is a file of the run {folder.path}; choose another file")

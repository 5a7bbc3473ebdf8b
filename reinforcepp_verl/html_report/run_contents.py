"""Reads what the page shows of one run folder. What is damaged is reported in `problems`; the rest is still read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from reinforcepp_verl.checkpoints.manifest import MANIFEST
from reinforcepp_verl.checkpoints.store import checkpoint_steps, folder_name
from reinforcepp_verl.common.json_text import read_object
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import config_file
from reinforcepp_verl.config.schema import as_tree, leaves
from reinforcepp_verl.html_report.answers import KeptAnswers, training_answers, validation_answers
from reinforcepp_verl.html_report.liveness import is_going_on
from reinforcepp_verl.report.history import History, load_history

Found = TypeVar("Found")


class Problems(list[str]):
    """What is wrong with the files of a run, one line each."""

    def reading(self, part: Callable[[], Found], otherwise: Found) -> Found:
        """Return what `part` reads, or `otherwise` if it is damaged."""
        try:
            return part()
        except (ValueError, OSError) as error:
            self.append(str(error))
            return otherwise


@dataclass(frozen=True)
class RunContents:
    """What is known about one run."""

    folder: RunFolder
    summary: dict[str, Any]
    """The fields of summary.json, {} without one."""
    is_going_on: bool
    history: History
    """Without metrics if none are recorded yet, or all are lost."""
    config: dict[str, Any]
    """The values of config.yaml by their dotted keys."""
    versions: dict[str, str]
    """Packages that wrote the newest checkpoint."""
    warnings: list[str]
    """Those of the check before the run."""
    training: KeptAnswers
    validation: KeptAnswers
    problems: Problems

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.name


def read_run(path: Path, wanted: Callable[[str], bool]) -> RunContents:
    """Read a run folder with its `wanted` metrics; answers are only read when they are asked for.

    Raises:
        ValueError: the folder is not that of a run
    """
    folder, problems = RunFolder(path.resolve()), Problems()
    if not folder.path.is_dir():
        raise ValueError(f"{path}: no such run folder; give the folder of a run, for example runs/latest")
    if not any(file.exists() for file in (folder.summary, folder.metrics, folder.config)) and not folder.attempts():
        raise ValueError(f"{path}: not the folder of a run; give one, for example runs/latest")
    summary: dict[str, Any] = {}
    if folder.summary.is_file():
        summary = problems.reading(lambda: read_object(folder.summary), summary)
    nothing = History(folder.path, folder.path.name, None, {})
    has_metrics = folder.metrics.is_file() or bool(folder.attempts())
    return RunContents(
        folder=folder,
        summary=summary,
        is_going_on=is_going_on(folder, summary.get("status")),
        history=problems.reading(lambda: load_history(path, wanted), nothing) if has_metrics else nothing,
        config=problems.reading(lambda: _config(folder), {}),
        versions=problems.reading(lambda: _versions(folder), {}),
        warnings=problems.reading(lambda: _lines(folder.warnings), []),
        training=training_answers(folder),
        validation=validation_answers(folder),
        problems=problems,
    )


def _config(folder: RunFolder) -> dict[str, Any]:
    damage: ValueError | None = None
    for file in folder.configs():
        try:
            if file.is_file():
                return dict(leaves(as_tree(config_file.load(file))))
        except ValueError as error:
            damage = damage or error
    if damage is not None:
        raise damage
    return {}


def _versions(folder: RunFolder) -> dict[str, str]:
    for step in checkpoint_steps(folder.checkpoints):
        manifest = folder.checkpoints / folder_name(step) / MANIFEST
        if manifest.is_file():
            versions = read_object(manifest).get("versions")
            return versions if isinstance(versions, dict) else {}
    return {}


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []

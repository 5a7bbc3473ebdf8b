"""Assembles the page: reads the runs, hands what they have to the template, and inlines style, script and data."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reinforcepp_verl import __version__
from reinforcepp_verl.config import keys
from reinforcepp_verl.html_report import configurations
from reinforcepp_verl.html_report.accuracy import Accuracy, accuracy_charts, accuracy_of
from reinforcepp_verl.html_report.charts import CURVES, MEMORY, Chart, charts_of
from reinforcepp_verl.html_report.liveness import SIGN_OF_LIFE_S
from reinforcepp_verl.html_report.page_values import as_json, shown_text
from reinforcepp_verl.html_report.phases import StepTime, is_timer, step_time
from reinforcepp_verl.html_report.run_contents import RunContents, read_run
from reinforcepp_verl.html_report.shown_answers import shown_answers
from reinforcepp_verl.report.groups import Group, group_runs
from reinforcepp_verl.report.panels import Panel, is_drawn, refuse_unrecorded
from reinforcepp_verl.runs.run_summary import outcome

PAGE = importlib.resources.files("reinforcepp_verl.html_report") / "page"
SCRIPTS = ("elements.js", "charts.js", "pictures.js", "answers.js", "page.js")
ANSWER_BYTES = 7_000_000
"""Of all answers in the page."""
MOST_STEPS = 24
"""Steps with answers, and validations, of a single run; several runs share about as many."""
FEWEST_STEPS = 4


@dataclass(frozen=True)
class ReportedRun:
    """A run as the template shows it."""

    contents: RunContents
    color: int
    outcome: str
    facts: dict[str, str]
    time: StepTime | None


@dataclass(frozen=True)
class Document:
    """The page, and what is wrong with the runs in it."""

    html: bytes
    problems: list[str]
    going_on: bool
    """True if a run may change it."""


def build(runs: Sequence[Path], extra: Sequence[Panel] = ()) -> Document:
    """Return the page of `runs`, with the panels `extra` in addition to the usual ones.

    Raises:
        ValueError: a folder is not that of a run, or no run has a metric of `extra`
    """
    panels = (*CURVES, *extra)
    contents = [read_run(run, lambda name: is_drawn(name, (*panels, *MEMORY)) or is_timer(name)) for run in runs]
    if any(run.history.series for run in contents):
        refuse_unrecorded(extra, [run.history for run in contents])
    groups = group_runs([run.history for run in contents])
    reported = [_reported(run, groups) for run in contents]
    most_steps = max(FEWEST_STEPS, MOST_STEPS // len(contents))
    accuracy, reasons = _accuracy(reported, most_steps)
    answers, histograms = _answers(reported, most_steps)
    data = {
        "curves": charts_of(panels, groups),
        "accuracy": accuracy_charts(accuracy),
        "memory": _without_empty(charts_of(MEMORY, groups)),
        "time": [{"run": run.contents.name, **run.time.chart} for run in reported if run.time],
        "histograms": histograms,
        "answers": answers,
    }
    html = (
        _environment()
        .get_template("report.html")
        .render(
            runs=reported,
            groups=groups,
            several=len(reported) > 1,
            accuracy=[each for each in accuracy if each.steps],
            no_accuracy=reasons,
            compared=configurations.compare([run.contents.config for run in reported]),
            has={name: bool(part) for name, part in data.items()},
            data=as_json(data),
            written=f"{datetime.now():%Y-%m-%d %H:%M:%S}",
            version=__version__,
            style=_Inlined(("style.css",)),
            script=_Inlined(SCRIPTS),
        )
    )
    problems = [problem for run in contents for problem in run.problems]
    return Document(html.encode(), problems, any(run.is_going_on for run in contents))


class _Inlined:
    """Files of the page with the digest that allows them, and nothing else, in its content security policy."""

    def __init__(self, files: Sequence[str]) -> None:
        self.text = Markup("\n" + "\n".join((PAGE / file).read_text(encoding="utf-8") for file in files))
        self.digest = f"sha256-{base64.b64encode(hashlib.sha256(self.text.encode()).digest()).decode()}"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reinforcepp_verl.html_report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown_text(value) if type(value) is str else value,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    return environment


def _reported(run: RunContents, groups: Sequence[Group]) -> ReportedRun:
    color = next(index for index, group in enumerate(groups) if run.history in group.members)
    return ReportedRun(run, color, _outcome(run), _facts(run), step_time(run.history))


def _outcome(run: RunContents) -> str:
    if not run.summary:
        return "no summary.json that can be read"
    told = outcome(run.summary, run.config.get(keys.TOTAL_TRAINING_STEPS))
    if run.summary.get("status") == "running" and not run.is_going_on:
        return f"killed, or without a sign of life for {SIGN_OF_LIFE_S // 60} minutes; {told}"
    return told


def _facts(run: RunContents) -> dict[str, str]:
    """Return where and on what the run was trained."""
    config, summary = run.config, run.summary
    workers = [config.get(key) for key in (keys.NNODES, keys.N_GPUS_PER_NODE, keys.DEVICE)]
    found = {
        "folder": run.folder.path,
        "started in": summary.get("directory"),
        "seed": run.history.seed,
        "attempts": summary.get("attempts"),
        "estimator": config.get(keys.ADV_ESTIMATOR),
        "model": config.get(keys.MODEL_PATH),
        "workers": None if None in workers else "{} x {} {}".format(*workers),
        **{f"{name} (in the newest checkpoint)": version for name, version in sorted(run.versions.items())},
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def _accuracy(runs: Sequence[ReportedRun], most_steps: int) -> tuple[list[Accuracy], dict[str, str]]:
    found, reasons = [], {}
    for run in runs:
        accuracy, reason = accuracy_of(run.contents, run.color, most_steps)
        found.append(accuracy)
        if reason is not None:
            reasons[run.contents.name] = reason
    return found, reasons


def _answers(runs: Sequence[ReportedRun], most_steps: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    sets = [
        (run.contents, kind, kept)
        for run in runs
        for kind, kept in (("training", run.contents.training), ("validation", run.contents.validation))
        if kept.steps
    ]
    shown, histograms = [], []
    for run, kind, kept in sets:
        answers, pictures = shown_answers(run.name, kind, kept, most_steps, ANSWER_BYTES / len(sets), run.problems)
        shown += [answers] if answers else []
        histograms += pictures
    return shown, histograms


def _without_empty(charts: Sequence[Chart]) -> list[Chart]:
    """Leave out what is zero throughout: an accelerator's memory on a machine without one."""
    return [chart for chart in charts if any(line["y"].any() for line in chart["lines"])]

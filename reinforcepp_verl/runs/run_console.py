"""Console output of a run: a headline, one row per step, and a progress bar with the remaining time."""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from reinforcepp_verl.common.run_folder import Attempt, RunFolder
from reinforcepp_verl.common.terminal import say
from reinforcepp_verl.config import keys
from reinforcepp_verl.report.history import load_history
from reinforcepp_verl.report.validation_metric import validation_key
from reinforcepp_verl.runs.run_summary import Summary, outcome
from reinforcepp_verl.runs.shown_samples import ShownSamples

# Heading, width, format and candidate verl metrics (the first one in the record is shown).
METRIC_COLUMNS = (
    ("step", 5, "d", ("step",)),
    ("reward", 8, ".3f", ("critic/score/mean",)),
    ("val acc", 8, ".3f", ()),
    ("KL", 9, ".5f", ("actor/reward_kl_penalty", "actor/kl_loss", "kl_loss", "actor/ppo_kl")),
    ("length", 7, ".1f", ("response_length/mean",)),
    ("entropy", 8, ".3f", ("actor/entropy",)),
    ("clipped", 8, ".4f", ("actor/pg_clipfrac",)),
    ("grad", 7, ".3f", ("actor/grad_norm",)),
    ("seconds", 8, ".2f", ("timing_s/step",)),
)


LONGEST_PROMPT = "prompt_length/max"


class TimeLeftColumn(ProgressColumn):
    """Remaining time from the average step so far; rich's own estimate ignores steps older than 30 s."""

    def render(self, task: Task) -> Text:
        done = task.completed - task.fields["first_step"]
        if done <= 0 or task.total is None or task.elapsed is None:
            return Text("time left -:--", style="progress.remaining")
        left = (task.elapsed - task.fields["startup_s"]) / done * (task.total - task.completed)
        return Text(f"time left {int(left // 60)}:{int(left % 60):02d}", style="progress.remaining")


def header() -> str:
    """Return the headings of the rows."""
    return "".join(f"{name:>{width}}" for name, width, _, _ in METRIC_COLUMNS)


def row(record: dict[str, Any]) -> str:
    """Return one step's record as a line; a missing value is a dash."""
    cells = []
    for _heading, width, spec, candidates in METRIC_COLUMNS:
        names = [key for key in candidates if key in record] if candidates else [validation_key(record)]
        value = record.get(names[0]) if names and names[0] else None
        cells.append(f"{'-':>{width}}" if value is None else f"{value:>{width}{spec}}")
    return "".join(cells)


def cut_prompts(length: float) -> str:
    """Return the warning about prompts of `length` tokens, all that verl keeps."""
    return (
        f"prompts have {length} tokens, the limit {keys.MAX_PROMPT_LENGTH}: longer ones lose their beginning; "
        f"`reinforcepp check` counts them, {keys.FILTER_OVERLONG_PROMPTS}=true leaves them out"
    )


class RunConsole:
    """Context manager around the progress bar; rows are printed above it."""

    def __init__(
        self,
        console: Console,
        total_steps: int | None,
        start_step: int = 0,
        cut_at: float = math.inf,
        samples: ShownSamples | None = None,
    ) -> None:
        """`cut_at`: the number of tokens to which verl cuts prompts, infinite if it leaves out longer ones."""
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeLeftColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._task = self._progress.add_task(
            "starting Ray, FSDP workers and vLLM (about a minute)",
            total=total_steps,
            completed=start_step,
            first_step=start_step,
            startup_s=0.0,
        )
        self._rows = 0
        self._cut_at = cut_at
        self._samples = samples

    def show(self, record: dict[str, Any]) -> None:
        """Print the row of one step and move the bar."""
        if self._rows == 0:
            self._console.print(header(), style="bold", highlight=False)
            elapsed = self._progress.tasks[self._task].elapsed or 0.0
            self._progress.update(self._task, description="training", startup_s=elapsed)
        self._rows += 1
        self._console.print(row(record), highlight=False, soft_wrap=True)
        self._progress.update(self._task, completed=record["step"])
        # Not prompt_length/clip_ratio: verl compares with the longest prompt of the step, so it is never 0.
        if record.get(LONGEST_PROMPT, 0) >= self._cut_at:
            say(self._console, f"warning: {cut_prompts(self._cut_at)}", style="yellow")
            self._cut_at = math.inf
        if self._samples is not None:
            for line in self._samples.lines(record["step"], self._console.width):
                say(self._console, line, style="dim")

    def __enter__(self) -> RunConsole:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def headline(config: DictConfig, attempt: Attempt, console: Console) -> None:
    """Print what runs and where its output is."""
    rollout = config.actor_rollout_ref.rollout
    say(
        console,
        f"{config.algorithm.adv_estimator} on {config.actor_rollout_ref.model.path}, "
        f"{config.data.train_batch_size} prompts x {rollout.n} answers per step, "
        f"{config.trainer.nnodes}x{config.trainer.n_gpus_per_node} {config.trainer.device} workers, seed {config.seed}",
    )
    say(console, f"run folder: {attempt.run.path}\nfull log:   {attempt.run.log}")


def show_outcome(folder: RunFolder, summary: Summary, console: Console) -> None:
    """Print how the run ended, then plot its curves."""
    if summary.status == "failed":
        say(console, f"failed: {summary.error}\nfull log: {folder.log}", style="bold red")
    else:
        say(console, outcome(vars(summary)))
    if summary.steps > 0:
        # Imported here so that a run that fails at its start does not wait for matplotlib.
        from reinforcepp_verl.report.curves import plot_runs
        from reinforcepp_verl.report.panels import is_drawn

        try:
            plot_runs([load_history(folder.path, is_drawn)], folder.curves)
        except (OSError, ValueError) as error:
            # A missing plot does not change the outcome of the run.
            say(console, f"no curves: {error}")
        else:
            say(console, f"curves: {folder.curves}")

"""The `samples` command: print prompts and answers that a run has kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.common.terminal import echo

if TYPE_CHECKING:
    from reinforcepp_verl.training_samples.files import SampleFiles
    from reinforcepp_verl.training_samples.record import Answer, PromptSample


def samples(
    run: Annotated[Path, typer.Argument(metavar="RUN", show_default=False, help="Run folder, such as runs/latest.")],
    step: Annotated[
        Optional[int],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--step", show_default="the newest", help="Training step."),
    ] = None,
    right: Annotated[bool, typer.Option("--right", help="Only answers with a reward above 0.")] = False,
    wrong: Annotated[bool, typer.Option("--wrong", help="Only answers with a reward of 0 or less.")] = False,
    truncated: Annotated[bool, typer.Option("--truncated", help="Only answers that reached the length limit.")] = False,
    errors: Annotated[
        bool, typer.Option("--errors", help="Only answers that the reward function could not score.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Answers to print.")] = 8,
    full: Annotated[bool, typer.Option("--full", help="Print long texts whole, as far as the run keeps them.")] = False,
) -> None:
    """Print prompts and answers of a training step, with reward, advantage, KL, length and what the reward returned.

    A run keeps a few prompts of each step (samples.groups_per_step), from the one whose answers differ most in reward
    to the one whose differ least. Several of the options that choose answers must all apply. The files are
    RUN/samples/STEP.jsonl, one JSON object per prompt, with advantage and log-probabilities of every token.

    The newest step:  reinforcepp samples runs/latest

    What goes wrong:  reinforcepp samples runs/latest --step 40 --wrong --limit 3
    """
    from reinforcepp_verl.training_samples.files import SampleFiles
    from reinforcepp_verl.training_samples.show import chosen_answers, full_lines

    files = SampleFiles(RunFolder(run.resolve()).samples)
    try:
        if right and wrong:
            raise ValueError("--right and --wrong: no answer is both; give one of them")
        kept = _read(run, files, step)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    wanted = _filter(right=right, wrong=wrong, truncated=truncated, errors=errors)
    chosen = chosen_answers(kept, wanted, limit)
    for number, (sample, answers) in enumerate(chosen):
        if number:
            echo("")
        for line in full_lines(sample, answers, full=full):
            echo(line)
    more = sum(wanted(answer) for sample in kept for answer in sample.answers) - sum(len(some) for _, some in chosen)
    if more:
        echo(f"\nand {more} more; --limit shows more of them")
    if not chosen:
        answers_kept = sum(len(sample.answers) for sample in kept)
        steps = files.steps()
        echo(
            f"none of the {answers_kept} answers kept of step {kept[0].step if kept else step} is like that; "
            f"{len(steps)} steps are kept, from {steps[0]} to {steps[-1]}: choose one with --step"
        )


def _read(run: Path, files: SampleFiles, step: int | None) -> list[PromptSample]:
    if not run.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder of a run, for example runs/latest")
    steps = files.steps()
    if not steps:
        # Imported here to keep other commands fast.
        from reinforcepp_verl.config import keys

        raise ValueError(
            f"{run}: no samples in it; wait for the first step (a run with {keys.SAMPLES}.groups_per_step=0 keeps none)"
        )
    return files.read(steps[-1] if step is None else step)


def _filter(*, right: bool, wrong: bool, truncated: bool, errors: bool) -> Callable[[Answer], bool]:
    def is_wanted(answer: Answer) -> bool:
        return (
            (not right or answer.is_right)
            and (not wrong or not answer.is_right)
            and (not truncated or answer.is_truncated)
            and (not errors or answer.error is not None)
        )

    return is_wanted

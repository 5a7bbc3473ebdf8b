"""The `explain` command: what went wrong in a run, or may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from reinforcepp_verl.cli.json_file import check_json, write_json
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.common.terminal import echo

if TYPE_CHECKING:
    from reinforcepp_verl.diagnosis.measured import Measured
    from reinforcepp_verl.diagnosis.rule import Diagnosis


def explain(
    run: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Argument(metavar="RUN", show_default=False, help="Run folder. runs/latest is the newest run."),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="Print the rules and their thresholds as a table.")] = False,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", show_default=False, help="Also write the findings to this file."),
    ] = None,
) -> None:
    """Name what went wrong in a run, or may: with evidence, the likely cause, and the key to change.

    Reads the metrics of the run folder, also while the run goes on. A healthy run has no finding; docs/explain.md says
    where the thresholds come from. The findings are hints: look at the samples before you change a run.

    A run:      reinforcepp explain runs/latest

    The rules:  reinforcepp explain --rules
    """
    # Imported here to keep other commands fast: numpy is slow to import.
    from reinforcepp_verl.diagnosis.rules import diagnose_run, markdown

    if rules and run is None and json_file is None:
        echo(markdown(), nl=False)
        return
    try:
        if rules:
            raise ValueError("--rules reads no run and writes no file; remove RUN and --json")
        if run is None:
            raise ValueError("give the folder of a run, for example runs/latest")
        if json_file is not None:
            check_json(json_file)
        measured, diagnosis = diagnose_run(run)
        if json_file is not None:
            write_json(json_file, _as_json(diagnosis))
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    _print(run, measured, diagnosis)


def _print(run: Path, measured: Measured, diagnosis: Diagnosis) -> None:
    from reinforcepp_verl.runs.run_summary import outcome, read_summary

    steps = [int(step) for curve in measured.curves.values() for step in (curve.steps[0], curve.steps[-1])]
    looked = f"steps {min(steps)} to {max(steps)}" if steps else "no step recorded yet"
    if summary := read_summary(RunFolder(run.resolve()).summary):
        echo(f"{run}: {outcome(summary, None)}")
    echo(f"{run}: {looked}, {len(diagnosis.findings) or 'no'} finding{'s' * (len(diagnosis.findings) != 1)}")
    for finding in diagnosis.findings:
        evidence, rule = finding.evidence, finding.rule
        echo(f"\n{rule.name} (steps {evidence.first_step} to {evidence.last_step})")
        echo(f"  evidence  {evidence.text}\n  cause     {rule.cause}\n  change    {rule.change}")
    if diagnosis.too_early:
        waiting = (f"{name} ({steps})" for name, steps in diagnosis.too_early.items())
        echo(f"\ntoo early for these, with the number of steps that they need: {', '.join(waiting)}")
    if diagnosis.not_recorded:
        missing = (f"{name} ({', '.join(metrics)})" for name, metrics in diagnosis.not_recorded.items())
        echo(f"\nnot looked at, because the run does not record it: {'; '.join(missing)}")


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    found = [
        {
            "rule": finding.rule.name,
            "first_step": finding.evidence.first_step,
            "last_step": finding.evidence.last_step,
            "evidence": finding.evidence.text,
            "cause": finding.rule.cause,
            "change": finding.rule.change,
        }
        for finding in diagnosis.findings
    ]
    return {"findings": found, "not_recorded": diagnosis.not_recorded, "too_early": diagnosis.too_early}

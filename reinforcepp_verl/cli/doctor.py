"""The `doctor` command: what this machine can run, and what to do about what is wrong."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reinforcepp_verl.doctor import machine_checks

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    ray: Annotated[
        bool, typer.Option("--ray/--no-ray", help="Also start Ray (one CPU, about 10 s) and ask one of its workers.")
    ] = True,
) -> None:
    """Examine this machine and installation: versions, memory, vLLM, and whether verl finds the plugin.

    verl says nothing when a plugin fails to load and trains without it. This command loads verl here and in a Ray
    worker, as a training run would, and looks. Nothing is changed and nothing keeps running.

    ok: fine. warn: it may run, but slower, or with versions that nobody tried. fail: training cannot work.
    Exits with 1 after a fail, with 0 otherwise. Takes less than a minute.

    Everything:  reinforcepp doctor

    In a hurry:  reinforcepp doctor --no-ray
    """
    console = Console()
    with console.status("looking at this machine"):
        findings = machine_checks.examine(ray=ray)
    table = Table(box=None, pad_edge=False)
    for heading in ("check", "", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        style = STYLES[finding.status]
        table.add_row(finding.name, f"[{style}]{finding.status}[/]", finding.detail.replace("[", r"\["))
    console.print(table)
    troubles = [finding for finding in findings if finding.status != "ok"]
    if troubles:
        console.print("\nwhat to do:")
    for finding in troubles:
        console.print(f"  {finding.name}: {finding.fix}", style=STYLES[finding.status], markup=False, soft_wrap=True)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)

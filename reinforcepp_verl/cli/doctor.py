"""The `doctor` command: what this machine can run, and how to fix what is wrong."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from reinforcepp_verl.common.terminal import SafeConsole

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    ray: Annotated[
        bool, typer.Option("--ray/--no-ray", help="Also start Ray (one CPU, about 10 s) and check one of its workers.")
    ] = True,
) -> None:
    """Check this machine and installation: versions, memory, vLLM, and whether verl finds the plugin.

    If a plugin fails to load, verl silently trains without it. This command loads verl here and in a Ray worker, as a
    training run would, and checks that the plugin is there. It changes nothing and leaves no process running.

    ok: fine. warn: it may run, but slower, or with untested versions. fail: training cannot work.
    Exits with 1 if a check fails, otherwise with 0. Takes less than a minute.

    All checks:  reinforcepp doctor

    Faster:      reinforcepp doctor --no-ray
    """
    from reinforcepp_verl.doctor import machine_checks

    console = SafeConsole()
    with console.status("checking this machine"):
        findings = machine_checks.run_checks(ray=ray)
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

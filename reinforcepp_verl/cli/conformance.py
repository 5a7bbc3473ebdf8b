"""The `conformance` command: judge any implementation of REINFORCE++ by cases with known answers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from reinforcepp_verl.cli.json_file import check_json, write_json
from reinforcepp_verl.common.terminal import echo

EXIT_DEVIATES, EXIT_USAGE = 1, 2


def conformance(
    call: Annotated[
        str,
        typer.Option("--call", metavar="MODULE:FUNCTION", show_default=False, help="Or path/to/file.py:function."),
    ],
    text: Annotated[
        Optional[str],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option(
            "--text", show_default="all", help="Only the cases that follow it: paper, openrlhf, verl, reinforcepp-verl."
        ),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", show_default=False, help="Also write all verdicts to this file."),
    ] = None,
) -> None:
    """Judge an implementation of REINFORCE++ by cases with known answers, and say in words how it deviates.

    FUNCTION gets one case as a dict and returns a dict. Raise NotImplementedError for what it does not have.

        import torch

        def call(case):
            if case["kind"] == "policy_loss":            # then return {"loss": scalar that depends on case["log_prob"]}
                raise NotImplementedError("only advantages")
            if case["estimator"] != "reinforcepp" or case["ref_log_prob"] is not None:
                raise NotImplementedError("only the plain estimator without KL")
            mask = case["response_mask"]                 # (B, T)
            scores = case["token_level_scores"].sum(-1)  # (B,)
            advantages = (scores - scores.mean()) / scores.std()
            return {"advantages": advantages[:, None] * mask}

    Saved as mine.py, it is judged by

        reinforcepp conformance --call mine.py:call

    which says, among others: "The variance divides by n - 1. In OpenRLHF: the variance divides by n. The paper
    leaves it open." It finds that by comparing the output with a slow reference under every named alternative.

    The exit code is 0 if every supported case agrees, 1 if one deviates, 2 if nothing could be judged. All keys of a
    case, and the verdicts on verl, OpenRLHF, TRL, ms-swift and SkyRL: docs/conformance.md.
    """
    # Imported here to keep other commands fast.
    from reinforcepp_verl.common.terminal import PipeSafeConsole
    from reinforcepp_verl.conformance.case_files import TEXTS, read_cases
    from reinforcepp_verl.conformance.judge import load_function
    from reinforcepp_verl.conformance.report import as_json, examine, print_report

    try:
        if text is not None and text not in TEXTS:
            raise ValueError(f"--text {text}: it must be one of {', '.join(TEXTS)}")
        if json_file is not None:
            check_json(json_file)
        sys.path.insert(0, "")  # a console script does not look for modules in the current folder
        function = load_function(call)
        report = examine(call, function, read_cases(), text)
        if report.judged:
            print_report(report, PipeSafeConsole())
        if json_file is not None:
            write_json(json_file, as_json(report))
    except ValueError as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from error
    if not report.judged:
        reason = next((v.detail for v in report.verdicts), "there are no cases")
        echo(f"error: --call {call}: it supports none of {len(report.verdicts)} cases ({reason})", err=True)
        raise typer.Exit(EXIT_USAGE)
    if not report.conforms:
        raise typer.Exit(EXIT_DEVIATES)

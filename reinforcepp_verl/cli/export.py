"""The `export` command: write a verl checkpoint as a Hugging Face folder."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reinforcepp_verl.common.terminal import SafeConsole, echo

if TYPE_CHECKING:
    from rich.console import Console

    from reinforcepp_verl.export.export_checkpoint import Export


class Dtype(str, Enum):
    """Data types of exported weights."""

    bfloat16 = "bfloat16"
    float32 = "float32"


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CHECKPOINT",
            show_default=False,
            help="A run (its newest complete checkpoint is used) or a checkpoint, RUN/checkpoints/global_step_N.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", show_default=False, help="Folder to write; new or empty.")],
    dtype: Annotated[
        Dtype, typer.Option(help="Data type of the weights: float32 keeps them exactly, bfloat16 is half the size.")
    ] = Dtype.bfloat16,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in that folder.")] = False,
) -> None:
    """Write the trained model as a Hugging Face folder and verify that it is the same model.

    verl's checkpoints are shards for resuming. This command merges them with verl.model_merger, loads the result with
    plain AutoModelForCausalLM and AutoTokenizer, and compares it with the shards: every weight bit for bit, tokens and
    chat template, and the log-probs of a few prompts. A folder that fails the check is deleted.

    Needs no GPU. While the shards are merged, all of them are in memory: docs/evaluation.md has the numbers.

    Training writes checkpoints if trainer.save_freq=N is set. FSDP only.

    Newest:  reinforcepp export runs/latest --out models/mine

    Exact:   reinforcepp export runs/latest/checkpoints/global_step_100 --out models/mine --dtype float32

    Serve:   vllm serve models/mine
    """
    from reinforcepp_verl.checkpoints.fsdp_checkpoint import find_checkpoint
    from reinforcepp_verl.runs.stop_signals import Stopped, raise_on_stop_signals

    console = SafeConsole(file=sys.stdout)  # stdout as it is before _quiet() redirects it
    try:
        with raise_on_stop_signals(), console.status("reading the checkpoint") as status:
            checkpoint = find_checkpoint(source)
            with _quiet():
                from reinforcepp_verl.export import export_checkpoint

                done = export_checkpoint.export(checkpoint, out, dtype.value, force, status.update)
    except Stopped as stop:
        echo(f"error: stopped by {stop}", err=True)
        raise typer.Exit(stop.exit_code) from stop
    except (ValueError, OSError) as error:
        echo(f"error: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(2) from error
    _show(done, out, dtype.value, console)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output of verl, transformers and torch while they load and save."""
    logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _show(done: Export, out: Path, dtype: str, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    from reinforcepp_verl.common.terminal import widen_pipe
    from reinforcepp_verl.export.verify_export import TOLERANCE

    checkpoint, comparison = done.checkpoint, done.comparison
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "checkpoint": f"{checkpoint.path}: {checkpoint.world_size} x FSDP, {done.parameters:,} parameters in "
        f"{done.trained_dtype}",
        "exported to": f"{out}: {dtype}, {done.size / 1e6:,.1f} MB",
        "weights": f"{comparison.tensors} tensors, each equal bit for bit to the shards in {dtype}",
        "tokenizer": "same tokens, special tokens and chat template",
        "log-probs": f"of {comparison.tokens} tokens, largest difference from the shards in {dtype} "
        f"{comparison.from_export:.1e} (at most {TOLERANCE:g}), from the shards as trained "
        f"{comparison.from_rounding:.1e}",
    }
    for name, text in rows.items():
        table.add_row(name, escape(text))
    widen_pipe(console, table)
    console.print(table, highlight=False)

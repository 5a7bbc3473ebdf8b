"""The `reinforcepp` command, one module for each subcommand. May import every other folder."""

from __future__ import annotations

from typing import Annotated

import typer

from reinforcepp_verl import __version__
from reinforcepp_verl.cli.bias import bias
from reinforcepp_verl.cli.compare import compare
from reinforcepp_verl.cli.conformance import conformance
from reinforcepp_verl.cli.doctor import doctor
from reinforcepp_verl.cli.evaluate import evaluate
from reinforcepp_verl.cli.explain import explain
from reinforcepp_verl.cli.export import export
from reinforcepp_verl.cli.plot import plot
from reinforcepp_verl.cli.prepare import prepare
from reinforcepp_verl.cli.recipes import recipes
from reinforcepp_verl.cli.report import report
from reinforcepp_verl.cli.resume import create, resume
from reinforcepp_verl.cli.reward import reward
from reinforcepp_verl.cli.samples import samples
from reinforcepp_verl.cli.slurm import slurm
from reinforcepp_verl.cli.train import TRAIN_HELP, check, train
from reinforcepp_verl.common.terminal import echo

HYDRA_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}
HYDRA_USAGE = "[OPTIONS] [OVERRIDES]..."

app = typer.Typer(
    help="REINFORCE++ on verl: prepare data, check, train, resume, plot, report, explain, compare, evaluate, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command()(doctor)
app.command()(prepare)
app.command()(recipes)
app.command(context_settings=HYDRA_ARGUMENTS, options_metavar=HYDRA_USAGE)(check)
app.command(context_settings=HYDRA_ARGUMENTS, options_metavar=HYDRA_USAGE, help=TRAIN_HELP)(train)
app.command(context_settings=HYDRA_ARGUMENTS, options_metavar=HYDRA_USAGE)(create)
app.command()(resume)
app.command()(plot)
app.command()(report)
app.command()(samples)
app.command()(explain)
app.command()(compare)
app.command()(bias)
app.command("eval")(evaluate)
app.command()(export)
app.command()(conformance)
app.add_typer(reward, name="reward")
app.add_typer(slurm, name="slurm")


def show_version(wanted: bool) -> None:
    if wanted:
        echo(f"reinforcepp-verl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of the command itself."""


def main() -> None:
    """Entry point of the console script."""
    app()

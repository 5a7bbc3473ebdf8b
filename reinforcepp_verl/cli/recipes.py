"""The `recipes` command: list the shipped recipes."""

from __future__ import annotations

from typing import Annotated

import typer

from reinforcepp_verl.common.terminal import SafeConsole, echo


def recipes(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of recipes/README.md.")] = False,
) -> None:
    """List the shipped recipes: what each trains, for which machine, the work per step and the memory per GPU.

    The memory is an estimate (`reinforcepp check +recipe=NAME` shows its parts). Each recipe file gives the source of
    its hyperparameters.

    Example:  reinforcepp recipes
    """
    from reinforcepp_verl.sizing import recipe_list

    listed = recipe_list.recipes()
    if markdown:
        echo(recipe_list.markdown(listed), nl=False)
        return
    console = SafeConsole(highlight=False)
    for recipe in listed:
        _, about, machine, answers, updates, tokens, gib, status = recipe.cells
        console.print(f"[bold]{recipe.name}[/]  {about}", soft_wrap=True)
        work = f"answers per step {answers}, updates {updates}, tokens {tokens}"
        console.print(f"    meant for {machine}; {work}, GiB per GPU {gib}; {status}", soft_wrap=True)

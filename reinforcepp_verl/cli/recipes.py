"""The `recipes` command: what is shipped."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console


def recipes(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the table in recipes/README.md.")] = False,
) -> None:
    """List the shipped recipes: what each trains, on which machine, how much work a step is and what a GPU needs.

    The memory is an estimate (`reinforcepp check +recipe=NAME` shows its parts). A recipe's file says where each of its
    hyper-parameters comes from.

    Example:  reinforcepp recipes
    """
    from reinforcepp_verl.sizing import recipe_list

    listed = recipe_list.recipes()
    if markdown:
        typer.echo(recipe_list.markdown(listed), nl=False)
        return
    console = Console(highlight=False)
    for recipe in listed:
        _, about, hardware, answers, updates, tokens, gib = recipe.cells
        console.print(f"[bold]{recipe.name}[/]  {about}", soft_wrap=True)
        work = f"answers a step {answers}, updates {updates}, tokens {tokens}"
        console.print(f"    {hardware}; {work}, GiB a GPU {gib}", soft_wrap=True)

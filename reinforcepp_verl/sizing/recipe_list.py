"""The shipped recipes: the fields of their headers, and the cost of their configurations."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common.hardware import GIB
from reinforcepp_verl.config import keys, machines, schema, search_path
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.schema import BASE
from reinforcepp_verl.sizing import gpu
from reinforcepp_verl.sizing.step_plan import StepPlan

FIELDS = ("Memory", "Prepare", "Train", "Sources", "Result")
TABLE_COLUMNS = (
    "recipe",
    "what",
    "meant for",
    "answers per step",
    "updates",
    "tokens",
    "GiB per GPU, estimated",
    "status",
)
_FIELD = re.compile(rf"#   ({'|'.join(FIELDS)}): +(.+)")


@dataclass(frozen=True)
class Recipe:
    """One recipe: the fields of its header, and its composed configuration."""

    name: str
    about: str
    header: dict[str, str]
    config: DictConfig

    @property
    def meant_for(self) -> str:
        """The machine that it is meant for, as a name for `cluster=`."""
        return str(value(self.config, keys.MEANT_FOR))

    @property
    def status(self) -> str:
        """Whether the recipe has been run, according to its header; the tests check every recipe."""
        return "checked only" if self.header["Result"].startswith("not run") else "run"

    @property
    def memory_gib(self) -> float | None:
        """Memory of the largest phase on one GPU, None on the CPU."""
        estimate = gpu.estimate_for(self.config)
        return max(phase.bytes for phase in estimate.phases) / GIB if estimate else None

    @property
    def cells(self) -> tuple[str, ...]:
        """The recipe's row of the table."""
        plan, gib = StepPlan.from_config(self.config), self.memory_gib
        return (
            self.name,
            re.split(r"[.:](?: |$)", self.about)[0],
            self.meant_for,
            f"{plan.prompts} x {plan.answers_per_prompt}",
            str(plan.updates),
            f"{value(self.config, keys.MAX_PROMPT_LENGTH)} + {plan.longest_answer}",
            "-" if gib is None else f"{gib:.0f} of {value(self.config, keys.GPU_MEMORY_GIB):.0f}",
            self.status,
        )


def read_header(file: Path) -> tuple[str, dict[str, str]]:
    """Return a recipe's description and the fields of its header; the lines of a field are joined by line breaks."""
    about: list[str] = []
    fields: dict[str, list[str]] = {}
    for line in _comment(file):
        if found := _FIELD.fullmatch(line):
            fields[found[1]] = [found[2]]
        elif fields:
            fields[next(reversed(fields))].append(line.removeprefix("#").strip())
        else:
            about.append(line.removeprefix("#").strip())
    return " ".join(about), {name: "\n".join(lines) for name, lines in fields.items()}


def _comment(file: Path) -> Iterator[str]:
    """Yield the comment lines at the top of a file, except Hydra's."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            return
        if not line.startswith("# @package"):
            yield line


def recipes() -> list[Recipe]:
    """Compose every shipped recipe for the machine that it is meant for.

    Recipes and machines are overlays on the same base, which takes most of the time and is composed once.
    """
    search_path.register()
    with initialize_config_dir(str(search_path.config_dir()), version_base="1.3"):
        # A copy by pickle takes a fraction of the time of OmegaConf's own.
        base = pickle.dumps(_composed(BASE, schema.WITHOUT_MACHINE))
        overlays = {name: _composed(f"recipe/{name}") for name in search_path.recipe_names()}
        meant_for = {name: str(value(overlay, keys.MEANT_FOR)) for name, overlay in overlays.items()}
        machine = {name: _composed(f"{machines.GROUP}/{name}") for name in set(meant_for.values())}
        return [_recipe(name, base, machine[meant_for[name]], overlay) for name, overlay in overlays.items()]


def _composed(name: str, *overrides: str) -> DictConfig:
    config = compose(name, list(overrides))
    # Overlays may add keys, as they may in Hydra's own composition.
    OmegaConf.set_struct(config, False)
    return config


def _recipe(name: str, base: bytes, machine: DictConfig, overlay: DictConfig) -> Recipe:
    about, header = read_header(search_path.config_dir() / "recipe" / f"{name}.yaml")
    config: DictConfig = pickle.loads(base)
    config.merge_with(machine, overlay)
    return Recipe(name, about, header, config)


def markdown(listed: list[Recipe]) -> str:
    """Return the table of recipes/README.md."""
    rows = [
        TABLE_COLUMNS,
        ("---",) * len(TABLE_COLUMNS),
        *((f"`{recipe.name}`", *recipe.cells[1:]) for recipe in listed),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

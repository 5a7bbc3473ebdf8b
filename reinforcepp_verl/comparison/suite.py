"""A suite: one recipe trained with several methods, read from a YAML file."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.search_path import config_dir

SUFFIX = ".yaml"


@dataclass
class SuiteFile:
    """The keys of a suite's file."""

    question: str = MISSING
    """What the suite asks, in one sentence."""
    recipe: str = MISSING
    """What is trained, as after `+recipe=`."""
    steps: int = MISSING
    """Training steps of every cell."""
    methods: dict[str, list[str]] = MISSING
    """The overrides of each method. An empty list is `+method=NAME`."""
    overrides: list[str] = field(default_factory=list)
    """Overrides of every method."""
    reference: str = "reinforcepp"
    """The method that the others are compared with."""
    measure: str = "accuracy"
    """What is compared: `accuracy`, or a number that the reward function returns; its mean over the validation set."""
    threshold: float = 0.7
    """The report says how many tokens and seconds a method needs until validation is there."""
    seeds: int = 5
    """How many seeds, from 1, unless --seeds says otherwise."""
    paper: str = ""
    """What the paper, or another source, says."""
    seen: str = ""
    """What the results show, and why one should or should not believe it; written when they are there."""
    cluster: str = "cpu"
    """The machine, as after `cluster=`."""
    memory_gb: float = 6.0
    """What one training needs, so that not too many run beside each other on a CPU."""


@dataclass(frozen=True)
class Suite:
    """A suite with its name and where it was read."""

    name: str
    file: SuiteFile
    path: Path

    def overrides_of(self, method: str) -> list[str]:
        """Return the overrides of a method's cells, without the seed."""
        own = self.file.methods[method] or [f"+method={method}"]
        return [
            f"+recipe={self.file.recipe}",
            f"cluster={self.file.cluster}",
            *own,
            *self.file.overrides,
            f"{keys.TOTAL_TRAINING_STEPS}={self.file.steps}",
        ]


def names() -> list[str]:
    """List the shipped suites."""
    return sorted(path.stem for path in _folder().glob(f"*{SUFFIX}"))


def load(given: str) -> Suite:
    """Read a shipped suite by its name, or a file by its path.

    Raises:
        ValueError: there is none, or it is not a suite; the message is one line with the fix
    """
    is_path = bool(Path(given).suffix) or "/" in given
    path = Path(given) if is_path else _folder() / f"{given}{SUFFIX}"
    if not path.is_file():
        fix = "give the path of a YAML file" if is_path else f"shipped are {', '.join(names())}"
        raise ValueError(f"there is no suite {given}: {fix}")
    if is_path and path.stem in names() and path.parent.resolve() != _folder().resolve():
        raise ValueError(f"{path} has the name of a shipped suite, whose results it would mix with; rename it")
    yaml_file.check(path)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(SuiteFile), OmegaConf.load(path))
        file = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {str(error).splitlines()[0]}; a suite has {_keys()}") from error
    assert isinstance(file, SuiteFile)
    if not file.methods:
        raise ValueError(f"{path}: methods is empty; name at least one")
    if file.reference not in file.methods:
        raise ValueError(f"{path}: reference is {file.reference}; set it to one of {', '.join(file.methods)}")
    if file.steps < 1 or file.seeds < 1:
        raise ValueError(f"{path}: steps and seeds must be at least 1")
    return Suite(path.stem, file, path)


def keep(suite: Suite, results: Path) -> None:
    """Copy the file of a suite of one's own beside its table, from which the page of results reads it."""
    copy = results / f"{suite.name}{SUFFIX}"
    if suite.name not in names() and suite.path.resolve() != copy.resolve():
        shutil.copyfile(suite.path, copy)


def with_table(results: Path) -> list[Suite]:
    """Return the suites that have a table in a folder of results: the shipped ones, then those of one's own."""
    tables = {path.stem for path in results.glob("*.parquet")}
    shipped = [load(name) for name in names() if name in tables]
    own = [path for path in sorted(results.glob(f"*{SUFFIX}")) if path.stem in tables - set(names())]
    return shipped + [load(str(path)) for path in own]


def _folder() -> Path:
    return config_dir() / "suite"


def _keys() -> str:
    return ", ".join(SuiteFile.__dataclass_fields__)

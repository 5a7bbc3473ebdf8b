"""Writes questions of reasoning-gym as data for verl: training and validation files, a manifest and a plot."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from reinforcepp_verl.common import entry_json
from reinforcepp_verl.common.replaced_folder import replace_folder
from reinforcepp_verl.common.terminal import SafeConsole
from reinforcepp_verl.config import keys
from reinforcepp_verl.data import data_summary, prompt_templates
from reinforcepp_verl.data.loading import checksum
from reinforcepp_verl.data.prepared_folder import PICTURE_FILE, existing_manifest, refuse_different, write_manifest
from reinforcepp_verl.data.prompt_templates import Template
from reinforcepp_verl.data.rows import QUESTIONS, WRITER, Row
from reinforcepp_verl.rewards import gym_package
from reinforcepp_verl.rewards.gym_package import DATA_SOURCE_PREFIX
from reinforcepp_verl.rewards.reasoning_gym import CONFIG_KEY, ENTRY_KEY
from reinforcepp_verl.tasks import gym_config
from reinforcepp_verl.tasks.gym_config import Settings
from reinforcepp_verl.tasks.gym_questions import Drawn, Question, draw, silence

NAME, PRODUCT, VERSION = "reasoning_gym", "reinforcepp-reasoning-gym", 1
TEMPLATE = "answer_tags"
SIZE, VAL_SIZE, SEED = 1000, 100, 1
TRAIN, VAL = "train", "val"
FILES = {TRAIN: "train.parquet", VAL: "val.parquet"}
CONTENTS = frozenset({*FILES.values(), PICTURE_FILE, "manifest.json"})
DIFFICULTY_KEY = "difficulty"
_TEXT = pa.string()
_COLUMN = QUESTIONS.get_field_index("extra_info")
_EXTRA_INFO = [*QUESTIONS.field(_COLUMN).type, *((key, _TEXT) for key in (DIFFICULTY_KEY, CONFIG_KEY, ENTRY_KEY))]
SCHEMA = QUESTIONS.set(_COLUMN, pa.field("extra_info", pa.struct(_EXTRA_INFO)))
"""Settings, difficulty and entry are JSON: their columns differ from task to task, but those of a file may not."""
Report = Callable[[int], None]


@dataclass(frozen=True)
class Request:
    """What to draw: `size` and `val_size` are numbers of questions of each task."""

    settings: Settings
    size: int
    val_size: int
    seed: int
    template: Template
    tokenizer: Path | None

    def identity(self) -> dict[str, Any]:
        """Return everything that the files depend on."""
        return {
            "product": PRODUCT,
            "version": VERSION,
            "task": NAME,
            "reasoning_gym": version("reasoning_gym"),
            "tasks": {task: entry_json.dumps(config) for task, config in self.settings.items()},
            "size": self.size,
            "val_size": self.val_size,
            "seed": self.seed,
            "template": asdict(self.template),
            "unit": data_summary.unit(self.tokenizer),
        }


def request(
    tasks: str | None = None,
    *,
    config: Sequence[str] = (),
    size: int = SIZE,
    val_size: float = VAL_SIZE,
    seed: int = SEED,
    template: str = TEMPLATE,
    tokenizer: Path | None = None,
) -> Request:
    """Check the options of the command."""
    if install := gym_package.missing():
        raise ValueError(install)
    for option, given in (("--size", size), ("--val-size", val_size)):
        if given < 1 or given != int(given):
            raise ValueError(f"{option} is {given:g}: it must be a number of questions of each task, 1 or more")
    names = gym_config.read_tasks(tasks)
    filled = prompt_templates.find(template)
    return Request(gym_config.read_settings(config, names), size, int(val_size), seed, filled, tokenizer)


def prepare(request: Request, out: Path, *, force: bool = False, report: Report = lambda _: None) -> dict[str, Any]:
    """Write OUT/{train.parquet,val.parquet,summary.png,manifest.json} and return the manifest.

    If `out` already holds the same data, it is kept unless `force`. Other data of this command is replaced only with
    `force`, and other contents never.
    """
    out = out.resolve()
    present, identity = existing_manifest(out, PRODUCT, CONTENTS), request.identity()
    if present is not None and not force:
        refuse_different(out, present, identity)
        return present
    length_of = data_summary.length_in(request.tokenizer)
    drawn = draw_all(request, report)
    with replace_folder(out) as folder:
        profiles = {}
        for split, file in FILES.items():
            rows = _rows(request, drawn, split)
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / file, **WRITER)
            profiles[split] = data_summary.profile(rows, length_of)
        data_summary.plot(profiles, NAME, data_summary.unit(request.tokenizer), folder / PICTURE_FILE)
        files = {file.name: checksum(file) for file in sorted(folder.iterdir())}
        counts = {task: _counts(found) for task, found in drawn.items()}
        manifest = {**identity, "counts": counts, "files": files}
        write_manifest(folder, manifest)
    return manifest


def show(out: Path, *, force: bool = False, **options: Any) -> None:
    """Run `prepare` in a terminal: a progress bar, then a summary table."""
    chosen, console = request(**options), SafeConsole()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} tasks")
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        progress = bar.add_task("drawing questions", total=len(chosen.settings))
        manifest = prepare(chosen, out, force=force, report=lambda done: bar.update(progress, completed=done))
    console.print(_table(manifest, out))
    for task, numbers in manifest["counts"].items():
        if numbers[TRAIN] < chosen.size or numbers[VAL] < chosen.val_size:
            console.print(f"{task} repeats itself: it has no more different questions than these", soft_wrap=True)
    overrides = f"{keys.TRAIN_FILES}={out / FILES[TRAIN]} {keys.VAL_FILES}={out / FILES[VAL]}"
    use = f"picture: {out / PICTURE_FILE}\nuse with: +reward_function=reasoning_gym {overrides}"
    console.print(use, markup=False, soft_wrap=True)


def draw_all(request: Request, report: Report = lambda _: None) -> dict[str, Drawn]:
    """Draw the questions of every task, each task in one of several processes."""
    drawn: dict[str, Drawn] = {}
    workers = min(len(request.settings), os.cpu_count() or 1)
    with _fixed_hashes(), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), silence) as pool:
        numbers = request.seed, request.size, request.val_size
        tasks = {pool.submit(draw, task, config, *numbers): task for task, config in request.settings.items()}
        try:
            for future in as_completed(tasks):
                drawn[tasks[future]] = future.result()
                report(len(drawn))
        except BrokenProcessPool as error:
            raise ValueError("a process that draws questions was killed: is there enough memory?") from error
        finally:
            pool.shutdown(cancel_futures=True)
    if empty := next((task for task in request.settings if not drawn[task].train), None):
        raise ValueError(
            f"{empty} has no more than {len(drawn[empty].val)} different questions, all of them in validation; lower "
            "--val-size, or change its --config"
        )
    return {task: drawn[task] for task in request.settings}


@contextmanager
def _fixed_hashes() -> Iterator[None]:
    """Have the Python processes that are started meanwhile iterate over sets in the same order each time."""
    name = "PYTHONHASHSEED"
    before = os.environ.get(name)
    os.environ[name] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _rows(request: Request, drawn: Mapping[str, Drawn], split: str) -> list[Row]:
    """Return the rows of a split, those of all tasks shuffled."""
    questions = [(task, question) for task, found in drawn.items() for question in _of(found, split)]
    Random(request.seed).shuffle(questions)
    return [
        {
            "data_source": f"{DATA_SOURCE_PREFIX}{task}",
            "prompt": request.template.chat(question.text),
            "ability": drawn[task].category,
            "reward_model": {"style": "rule", "ground_truth": question.answer},
            "extra_info": {
                "split": split,
                "index": index,
                "question": question.text,
                DIFFICULTY_KEY: question.difficulty,
                CONFIG_KEY: entry_json.dumps(request.settings[task]),
                ENTRY_KEY: question.entry,
            },
        }
        for index, (task, question) in enumerate(questions)
    ]


def _of(found: Drawn, split: str) -> list[Question]:
    return found.train if split == TRAIN else found.val


def _counts(found: Drawn) -> dict[str, int]:
    """Return the numbers of questions, of repeated ones and of characters."""
    both = found.train + found.val
    return {
        TRAIN: len(found.train),
        VAL: len(found.val),
        "repeated": found.draws - len(both),
        "question_chars": int(median(len(question.text) for question in both)),
        "answer_chars": max(len(question.answer) for question in both),
    }


def _table(manifest: Mapping[str, Any], out: Path) -> Table:
    caption = "repeated questions are dropped; characters: the median question and the longest answer"
    table = Table(title=f"{NAME} in {escape(str(out))}", caption=caption)
    table.add_column("task")
    for name in ("training", "validation", "repeated", "question", "answer"):
        table.add_column(name, justify="right")
    for task, numbers in manifest["counts"].items():
        table.add_row(task, *(f"{number:,}" for number in numbers.values()))
    return table

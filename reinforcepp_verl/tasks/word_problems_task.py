"""Generates the word problem task: questions in the formats of GSM8K and MATH, prepared like them, and a model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from reinforcepp_verl.data import prepare_source as sources
from reinforcepp_verl.data import prompt_templates
from reinforcepp_verl.data.rows import Row
from reinforcepp_verl.data.source_kinds import TEST, TRAIN
from reinforcepp_verl.data.sources import SOURCES
from reinforcepp_verl.tasks import word_model
from reinforcepp_verl.tasks.question_files import counts, save_model
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress
from reinforcepp_verl.tasks.word_model import WordProblemWarmStart
from reinforcepp_verl.tasks.word_templates import FORMATS, Problem, problems, row

TRAIN_QUESTIONS, TEST_QUESTIONS = 2048, 256
TEMPLATE = "boxed_system"


def data_source(name: str) -> str:
    """Return the data source of the problems in that format; they are not from the data set of that name."""
    return f"word_problems/{name}"


def _make(folder: Path, seed: int, settings: WordProblemWarmStart, progress: Progress | None) -> Manifest:
    """Write what ToyTask asks for.

    raw/ has the rows of both formats as in the original data sets, gsm8k/ and math/ the prepared rows; train.parquet
    and val.parquet combine both formats.
    """
    datasets.disable_progress_bars()
    made = {name: problems(name, TRAIN_QUESTIONS + TEST_QUESTIONS, seed) for name in FORMATS}
    for name, found in made.items():
        write_raw(name, found, folder / "raw" / name)
        convert(name, folder / "raw" / name, folder / name)
    train, val = _together(folder, TRAIN, "train.parquet"), _together(folder, TEST, "val.parquet")
    asked = {problem.question: problem for found in made.values() for problem in found}
    taught = [asked[row["extra_info"]["question"]] for row in train]
    tokenizer = word_model.build_tokenizer(word_model.texts(asked.values(), prompt_templates.find(TEMPLATE)))
    model = word_model.train(taught, train, tokenizer, seed=seed, settings=settings, progress=progress)
    save_model(model, tokenizer, folder / "model")
    asked_as = {name: [row for row in val if row["data_source"] == data_source(name)] for name in FORMATS}
    accuracy = {name: word_model.measure(model, tokenizer, rows, seed) for name, rows in asked_as.items()}
    return {
        "train_questions": len(train),
        "val_questions": len(val),
        "parameters": model.num_parameters(),
        "val_accuracy": {name: asdict(measured) for name, measured in accuracy.items()},
    }


def write_raw(name: str, found: Sequence[Problem], folder: Path) -> None:
    """Write the problems in the format of the data set of that name: FOLDER/{train,test}.jsonl."""
    folder.mkdir(parents=True)
    for split, part in ((TEST, found[:TEST_QUESTIONS]), (TRAIN, found[TEST_QUESTIONS:])):
        lines = "".join(json.dumps(row(name, problem)) + "\n" for problem in part)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def convert(name: str, raw: Path, out: Path) -> None:
    """Do the same as `reinforcepp prepare NAME --source RAW --template boxed_system --out OUT`."""
    request = sources.request(name, source=str(raw), template=TEMPLATE)
    sources.prepare(replace(request, source=replace(SOURCES[name], data_source=data_source(name))), out)


def _together(folder: Path, split: str, file: str) -> list[Row]:
    """Write the rows of both formats to one file, and return them."""
    table = pa.concat_tables([pq.read_table(folder / name / f"{split}.parquet") for name in FORMATS])
    pq.write_table(table, folder / file, **sources.WRITER)
    return table.to_pylist()


def _summary(manifest: Manifest) -> dict[str, str]:
    """Return the manifest as rows of a table."""
    accuracies = {
        f"validation accuracy, {name} format": f"{accuracy['sampled']:.1%} sampled, {accuracy['greedy']:.1%} greedy"
        for name, accuracy in manifest["val_accuracy"].items()
    }
    return {**counts(manifest), **accuracies}


TASK = ToyTask(
    product="reinforcepp-word-problems",
    version=1,
    title="word problems",
    doing="teaching a small model to solve them",
    contents=frozenset({"raw", *FORMATS, "train.parquet", "val.parquet", "model", "manifest.json"}),
    settings=WordProblemWarmStart,
    make=_make,
    summary=_summary,
)

"""Generates the calculator task: questions as parquet, the YAML of its tool, a tokenizer and a warm-started model."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import yaml

from reinforcepp_verl.tasks import calculator_model, question_files
from reinforcepp_verl.tasks.calculator_model import CalculatorWarmStart
from reinforcepp_verl.tasks.calculator_question import ONE_OPERATION, questions
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/calculator"
TRAIN_QUESTIONS, VALIDATION_QUESTIONS = 4096, 256
TOOLS_FILE = "tools.yaml"
TOOL_CLASS = "reinforcepp_verl.integration.calculator_tool.CalculatorTool"


def write_tools(path: Path) -> None:
    """Write the file of tools for verl's agent loop: a calculator for one operation."""
    config = {"type": "native", "max_operations": ONE_OPERATION.max_operations}
    tools = {"tools": [{"class_name": TOOL_CLASS, "config": config}]}
    path.write_text(yaml.safe_dump(tools, sort_keys=False), encoding="utf-8")


def _make(folder: Path, seed: int, settings: CalculatorWarmStart, progress: Progress | None) -> Manifest:
    asked = questions(TRAIN_QUESTIONS + VALIDATION_QUESTIONS, seed)
    train, val = asked[VALIDATION_QUESTIONS:], asked[:VALIDATION_QUESTIONS]
    write_tools(folder / TOOLS_FILE)
    tokenizer = calculator_model.build_tokenizer()
    model = calculator_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    accuracy = calculator_model.measure(model, tokenizer, val)
    return question_files.write(folder, DATA_SOURCE, train, val, model, tokenizer, accuracy)


TASK = ToyTask(
    product="reinforcepp-calculator",
    version=1,
    title="questions for a calculator",
    doing="teaching a small model to use it",
    contents=frozenset({"train.parquet", "val.parquet", TOOLS_FILE, "model", "manifest.json"}),
    settings=CalculatorWarmStart,
    make=_make,
    summary=partial(question_files.summary, bound="at least "),
)

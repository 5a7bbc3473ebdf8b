"""Generates the calculator task: questions as parquet, the YAML of its tool, a tokenizer and a warm-started model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from reinforcepp_verl.tasks import calculator_model
from reinforcepp_verl.tasks.calculator_model import CalculatorWarmStart
from reinforcepp_verl.tasks.calculator_question import ONE_OPERATION, Question, questions
from reinforcepp_verl.tasks.task_folder import Manifest, make_once, show
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/calculator"
TRAIN_QUESTIONS, VALIDATION_QUESTIONS = 4096, 256
PRODUCT, VERSION = "reinforcepp-calculator", 1
TOOLS_FILE = "tools.yaml"
CONTENTS = frozenset({"train.parquet", "val.parquet", TOOLS_FILE, "model", "manifest.json"})
TOOL_CLASS = "reinforcepp_verl.integration.calculator_tool.CalculatorTool"


def write_parquet(asked: Sequence[Question], split: str, path: Path) -> None:
    """Write the questions in verl's schema; the same questions give the same bytes."""
    rows = [
        {
            "data_source": DATA_SOURCE,
            "prompt": question.messages,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": question.answer},
            "extra_info": {"split": split, "index": index},
        }
        for index, question in enumerate(asked)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def write_tools(path: Path) -> None:
    """Write the file of tools for verl's agent loop: a calculator for one operation."""
    config = {"type": "native", "max_operations": ONE_OPERATION.max_operations}
    tools = {"tools": [{"class_name": TOOL_CLASS, "config": config}]}
    path.write_text(yaml.safe_dump(tools, sort_keys=False), encoding="utf-8")


def prepare(
    out: Path,
    seed: int = 1,
    *,
    force: bool = False,
    settings: CalculatorWarmStart | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Create OUT/{train.parquet,val.parquet,tools.yaml,model,manifest.json} unless it exists; return the manifest."""
    settings = settings or CalculatorWarmStart()
    identity = {"product": PRODUCT, "version": VERSION, "seed": seed, "warm_start": asdict(settings)}
    return make_once(out, identity, CONTENTS, lambda folder: _make(folder, seed, settings, progress), force=force)


def prepare_calculator_command(out: Path, seed: int = 1, force: bool = False) -> None:
    """Run `prepare` in a terminal: a progress bar, then a summary table."""
    show(
        f"questions for a calculator in {out}",
        "teaching a small model to use it",
        CalculatorWarmStart().steps,
        lambda progress: prepare(out, seed, force=force, progress=progress),
        _summary,
    )


def _make(folder: Path, seed: int, settings: CalculatorWarmStart, progress: Progress | None) -> Manifest:
    """Write everything into the new folder, and return the facts for the manifest."""
    asked = questions(TRAIN_QUESTIONS + VALIDATION_QUESTIONS, seed)
    train, val = asked[VALIDATION_QUESTIONS:], asked[:VALIDATION_QUESTIONS]
    write_parquet(train, "train", folder / "train.parquet")
    write_parquet(val, "val", folder / "val.parquet")
    write_tools(folder / TOOLS_FILE)
    tokenizer = calculator_model.build_tokenizer()
    model = calculator_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    tokenizer.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    accuracy = asdict(calculator_model.measure(model, tokenizer, val))
    return {
        "train_questions": len(train),
        "val_questions": len(val),
        "parameters": model.num_parameters(),
        "val_accuracy_at_least": {name: round(value, 4) for name, value in accuracy.items()},
    }


def _summary(manifest: Manifest) -> dict[str, str]:
    """Return the manifest as rows of a table."""
    accuracy = manifest["val_accuracy_at_least"]
    return {
        "training questions": str(manifest["train_questions"]),
        "validation questions": str(manifest["val_questions"]),
        "model parameters": f"{manifest['parameters']:,}",
        "validation accuracy, sampled": f"at least {accuracy['sampled']:.1%}",
        "validation accuracy, greedy": f"at least {accuracy['greedy']:.1%}",
    }

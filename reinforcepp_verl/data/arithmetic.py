"""Makes the two-digit addition task: questions as parquet, a character tokenizer and a warm-started model."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from reinforcepp_verl.data import warm_start
from reinforcepp_verl.data.folder import owned_manifest
from reinforcepp_verl.data.warm_start import WarmStart

DATA_SOURCE = "reinforcepp/arithmetic"
VALIDATION_QUESTIONS = 512
PRODUCT, VERSION = "reinforcepp-arithmetic", 1
CONTENTS = frozenset({"train.parquet", "val.parquet", "model", "manifest.json"})
SPECIAL_TOKENS = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


@dataclass(frozen=True, order=True)
class Question:
    """One question, both operands in 10..99."""

    left: int
    right: int

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a chat of one message."""
        return [{"role": "user", "content": f"{self.left}+{self.right}="}]

    @property
    def answer(self) -> str:
        """The right answer."""
        return str(self.left + self.right)


def split_questions(seed: int) -> tuple[list[Question], list[Question]]:
    """Shuffle all 8100 questions and return the training and the validation questions."""
    questions = [Question(left, right) for left in range(10, 100) for right in range(10, 100)]
    random.Random(seed).shuffle(questions)
    return questions[VALIDATION_QUESTIONS:], questions[:VALIDATION_QUESTIONS]


def write_parquet(questions: Sequence[Question], split: str, path: Path) -> None:
    """Write the questions in verl's schema; the same questions give the same bytes."""
    rows = [
        {
            "data_source": DATA_SOURCE,
            "prompt": question.messages,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": question.answer},
            "extra_info": {"split": split, "index": index},
        }
        for index, question in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer of single characters whose chat template is the begin token and the message."""
    vocabulary = [*SPECIAL_TOKENS.values(), *"0123456789+="]
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(vocabulary)}, SPECIAL_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=64,
        padding_side="left",
        **SPECIAL_TOKENS,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def prepare(
    out: Path,
    seed: int = 1,
    *,
    force: bool = False,
    settings: WarmStart | None = None,
    progress: warm_start.Progress | None = None,
) -> dict[str, Any]:
    """Make OUT/{train.parquet,val.parquet,model,manifest.json} and return the manifest.

    An `out` that already holds the same product is left alone unless `force`. The work is done in a folder beside
    `out` and moved into place at the end.
    """
    out, settings = out.resolve(), settings or WarmStart()
    identity = {"product": PRODUCT, "version": VERSION, "seed": seed, "warm_start": asdict(settings)}
    present = _existing_manifest(out)
    if present is not None and not force and identity.items() <= present.items():
        return present
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        made, replaced = Path(scratch, "made"), Path(scratch, "replaced")
        manifest = _make(made, identity, seed, settings, progress)
        if out.exists():
            out.rename(replaced)
        made.rename(out)
    return manifest


def prepare_arithmetic_command(out: Path, seed: int = 1, force: bool = False) -> None:
    """Run `prepare` for a terminal: a progress bar, then a table of what was made."""
    transformers_logging.disable_progress_bar()
    console, start = Console(), time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("teaching a small model to add", total=WarmStart().steps)
        manifest = prepare(
            out, seed, force=force, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    console.print(_summary(out, manifest, time.perf_counter() - start))


def _make(
    folder: Path, identity: dict[str, Any], seed: int, settings: WarmStart, progress: warm_start.Progress | None
) -> dict[str, Any]:
    """Write everything into the new folder; the manifest comes last."""
    folder.mkdir()
    train, val = split_questions(seed)
    write_parquet(train, "train", folder / "train.parquet")
    write_parquet(val, "val", folder / "val.parquet")
    tokenizer = build_tokenizer()
    model = warm_start.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    tokenizer.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    manifest = {
        **identity,
        "train_questions": len(train),
        "val_questions": len(val),
        "parameters": model.num_parameters(),
        "val_accuracy": {k: round(v, 4) for k, v in asdict(warm_start.measure(model, tokenizer, val)).items()},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return manifest


def _existing_manifest(out: Path) -> dict[str, Any] | None:
    """Return the manifest of a complete product at `out`, None where there is none; refuse what is not ours."""
    manifest = owned_manifest(out, PRODUCT, CONTENTS)
    return manifest if manifest is not None and all((out / name).exists() for name in CONTENTS) else None


def _summary(out: Path, manifest: dict[str, Any], seconds: float) -> Table:
    """Lay the manifest out for a terminal."""
    table = Table(title=f"two-digit addition in {out}", show_header=False)
    accuracy = manifest["val_accuracy"]
    table.add_row("training questions", str(manifest["train_questions"]))
    table.add_row("validation questions", str(manifest["val_questions"]))
    table.add_row("model parameters", f"{manifest['parameters']:,}")
    table.add_row("validation accuracy, sampled", f"{accuracy['sampled']:.1%}")
    table.add_row("validation accuracy, greedy", f"{accuracy['greedy']:.1%}")
    table.add_row("seed", str(manifest["seed"]))
    table.add_row("seconds", f"{seconds:.1f}")
    return table

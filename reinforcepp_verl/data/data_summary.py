"""Summarizes a prepared data set as a table and a plot: counts, prompt lengths and kinds of answers."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table
from transformers import AutoTokenizer

from reinforcepp_verl.common.plot_style import METADATA, PALETTE, STYLE
from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.data import answers
from reinforcepp_verl.data.rows import Row, truths
from reinforcepp_verl.data.source_kinds import TRAIN

PREFERENCES = ("chosen is longer", "rejected is longer", "same length")
LengthFunction = Callable[[Sequence[Row]], list[int]]


@dataclass(frozen=True)
class Profile:
    """The prompt lengths of a split, and the count of each kind of answer."""

    lengths: list[int]
    kinds: dict[str, int]

    def numbers(self) -> dict[str, Any]:
        """Return the summary for the manifest."""
        median, high = np.percentile(self.lengths or [0], [50, 95], method="nearest")
        length = {"median": int(median), "p95": int(high), "longest": max(self.lengths, default=0)}
        return {"length": length, "kinds": self.kinds}


def profile(rows: Sequence[Row], length_of: LengthFunction) -> Profile:
    """Measure the rows of a split."""
    kinds = Counter(_kind(row) for row in rows)
    return Profile(length_of(rows), {kind: kinds[kind] for kind in (*answers.KINDS, *PREFERENCES) if kinds[kind]})


def _kind(row: Row) -> str:
    """Return the kind of the first right answer; for a pair, which is longer: a reward model may learn only that."""
    if "chosen" not in row:
        return answers.kind(truths(row)[0])
    difference = len(row["chosen"][0]["content"]) - len(row["rejected"][0]["content"])
    return PREFERENCES[2 if difference == 0 else int(difference < 0)]


def unit(tokenizer: Path | None) -> str:
    """Return the unit in which prompts are measured."""
    return f"tokens of {tokenizer.resolve().name}" if tokenizer else "characters"


def length_in(tokenizer: Path | None) -> LengthFunction:
    """Return the function that measures prompts in this unit."""
    return tokens(tokenizer) if tokenizer else characters


def characters(rows: Sequence[Row]) -> list[int]:
    """Return the number of characters of each prompt."""
    return [sum(len(message["content"]) for message in row["prompt"]) for row in rows]


def tokens(folder: Path) -> LengthFunction:
    """Return a function that counts the tokens of each prompt, with the tokenizer's chat template if it has one."""
    if not folder.is_dir():
        raise ValueError(f"--tokenizer: no such folder: {folder}; give the folder of the model or of its tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # arbitrary files may raise anything
        reason = first_line(error)
        raise ValueError(f"--tokenizer: {folder} has no tokenizer ({reason}); give another folder") from error

    def text(row: Row) -> str:
        if tokenizer.chat_template is None:
            return "\n".join(message["content"] for message in row["prompt"])
        return str(tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False))

    def length_of(rows: Sequence[Row]) -> list[int]:
        texts = [text(row) for row in rows]
        # verbose would warn about texts that are too long for the model.
        return [len(ids) for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]

    return length_of


def table(manifest: Mapping[str, Any], out: Path) -> Table:
    """Return the manifest as a table, one column per split."""
    splits: Mapping[str, Any] = manifest["splits"]
    shown = Table(title=f"{manifest['task']} in {escape(str(out))}")
    shown.add_column("")
    for split in splits:
        shown.add_column(split, justify="right")
    lines: dict[str, Callable[[str, Any], str]] = {
        "rows read": lambda _, n: f"{n['read']:,}",
        "unusable": lambda _, n: _fate(sum(n["unusable"].values()), dropped=True),
        "duplicates": lambda split, n: _fate(n["duplicates"], dropped=split == TRAIN),
        "  with a different answer": lambda _, n: f"{n['disagreeing']:,}",
        "also in an evaluation set": lambda _, n: _fate(n["overlap"], dropped=not n["overlap_kept"]),
        "split off as test": lambda _, n: f"{n['split_off']:,}",
        "rows written": lambda _, n: f"{n['rows']:,}",
    }
    if not any("split_off" in numbers for numbers in splits.values()):
        del lines["split off as test"]
    for name, line in lines.items():
        shown.add_row(name, *(line(split, numbers) for split, numbers in splits.items()))
    shown.add_section()
    for name in ("median", "p95", "longest"):
        label = f"prompt in {manifest['unit']}, {name.replace('p95', '95th percentile')}"
        shown.add_row(label, *(f"{numbers['length'][name]:,}" for numbers in splits.values()))
    shown.add_section()
    for kind in (*answers.KINDS, *PREFERENCES):
        counts = [numbers["kinds"].get(kind, 0) for numbers in splits.values()]
        if any(counts):
            shown.add_row(kind if kind in PREFERENCES else f"answer: {kind}", *(f"{count:,}" for count in counts))
    return shown


def _fate(count: int, *, dropped: bool) -> str:
    return f"{count:,} {'dropped' if dropped else 'kept'}" if count else "0"


def plot(profiles: Mapping[str, Profile], title: str, unit: str, out: Path) -> None:
    """Plot the lengths and kinds of each split, as shares of the split; the same profiles give the same bytes."""
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        lengths = [p.lengths for p in profiles.values()]
        edges = np.histogram_bin_edges(np.concatenate(lengths), bins=min(40, max(map(len, lengths))))
        kinds = [k for k in (*answers.KINDS, *PREFERENCES) if any(k in p.kinds for p in profiles.values())]
        height = 0.8 / len(profiles)
        for number, (split, part) in enumerate(profiles.items()):
            count = len(part.lengths)
            style = {"color": PALETTE[number], "label": f"{split} ({count:,} rows)"}
            share = np.histogram(part.lengths, edges)[0] / max(count, 1)
            left.stairs(share, edges, fill=True, alpha=0.25, color=PALETTE[number])
            left.stairs(share, edges, **style)
            places = np.arange(len(kinds)) + number * height
            shares = [part.kinds.get(kind, 0) / max(count, 1) for kind in kinds]
            right.barh(places, shares, height, **style)
        left.set(title="Length of the prompt", xlabel=unit, ylabel="share of the split", ylim=(0, None))
        right.set(title="Length of the answers" if kinds[-1] in PREFERENCES else "Kind of answer")
        right.set(xlabel="share of the split", xlim=(0, 1))
        right.set_yticks(np.arange(len(kinds)) + 0.4 - height / 2, kinds)
        right.invert_yaxis()
        right.grid(False, axis="y")
        left.legend(frameon=False)
        figure.suptitle(title, fontsize=13, fontweight="bold")
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata=METADATA[".png"])
    out.write_bytes(picture.getvalue())

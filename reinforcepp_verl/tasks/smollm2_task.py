"""Writes the folder of SmolLM2: the model as it is, or fine-tuned on partly wrong demonstrations of a prepared task."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from reinforcepp_verl.data.loading import checksum
from reinforcepp_verl.tasks import LANGUAGE_MODEL, smollm2_model
from reinforcepp_verl.tasks.demonstrations import TRAIN_FILE, PreparedTask, read_task
from reinforcepp_verl.tasks.fine_tuning import FineTuning, fine_tune, measure
from reinforcepp_verl.tasks.question_files import save_model
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

MEASURED_QUESTIONS = 64
GOOD_START = (0.2, 0.6)
"""Sampled accuracies between which reinforcement learning makes progress in every step."""


@dataclass(frozen=True)
class SmolLM2Settings:
    """Where the model comes from, what it is fine-tuned on, and how; without a task it is not."""

    source: str
    sha256: str
    task: str | None
    task_sha256: str | None
    fine_tuning: FineTuning | None

    @property
    def steps(self) -> int:
        """Maximum number of steps; loading the model counts as one."""
        return 1 + (self.fine_tuning.steps if self.fine_tuning else 0)


def prepare_command(
    out: Path | None, *, source: str | None = None, warm_start: str | None = None, seed: int = 1, force: bool = False
) -> None:
    """Run `reinforcepp prepare smollm2` in a terminal.

    Raises:
        ValueError: the model or the task is not there
    """
    task = read_task(warm_start) if warm_start else None
    weights = smollm2_model.packaged_file() if source is None else smollm2_model.downloaded(source)
    chosen = SmolLM2Settings(
        source=source or smollm2_model.PACKAGE,
        sha256=checksum(weights if source is None else weights / smollm2_model.WEIGHTS_FILE),
        task=task.folder.resolve().name if task else None,
        task_sha256=checksum(task.folder / TRAIN_FILE) if task else None,
        fine_tuning=FineTuning() if task else None,
    )
    folder = out or Path("data", f"{LANGUAGE_MODEL}_{chosen.task}" if task else LANGUAGE_MODEL)
    _folder_of(chosen, weights, task).show(folder, seed, force)


def _folder_of(chosen: SmolLM2Settings, weights: Path, task: PreparedTask | None) -> ToyTask[SmolLM2Settings]:
    def make(folder: Path, seed: int, settings: SmolLM2Settings, progress: Progress | None) -> Manifest:
        return _make(folder, seed, settings, progress or (lambda done, total: None), weights, task)

    return ToyTask(
        product="reinforcepp-smollm2",
        version=1,
        title="SmolLM2-135M-Instruct",
        doing="loading it" if task is None else f"teaching it {chosen.task}",
        contents=frozenset({"model", "manifest.json"}),
        settings=lambda: chosen,
        make=make,
        summary=_summary,
    )


def _make(
    folder: Path, seed: int, settings: SmolLM2Settings, progress: Progress, weights: Path, task: PreparedTask | None
) -> Manifest:
    load = smollm2_model.from_package if weights.is_file() else smollm2_model.from_folder
    model, tokenizer = load(weights)
    progress(1, settings.steps)
    manifest: Manifest = {"parameters": model.num_parameters()}
    if task and settings.fine_tuning:
        pad = int(tokenizer.convert_tokens_to_ids(smollm2_model.PADDING))
        manifest["demonstrations"] = fine_tune(
            model,
            tokenizer,
            task.train,
            pad=pad,
            seed=seed,
            settings=settings.fine_tuning,
            progress=lambda done, total: progress(1 + done, 1 + total),
        )
        accuracy = measure(model, tokenizer, task.val[:MEASURED_QUESTIONS], pad)
        manifest["val_accuracy"] = {name: round(value, 4) for name, value in asdict(accuracy).items()}
    save_model(model, tokenizer, folder / "model")
    return manifest


def _summary(manifest: Manifest) -> dict[str, str]:
    """Return the manifest as rows of a table."""
    rows = {"from": manifest["settings"]["source"], "model parameters": f"{manifest['parameters']:,}"}
    if accuracy := manifest.get("val_accuracy"):
        low, high = GOOD_START
        outside = "" if low <= accuracy["sampled"] <= high else f" (not {low:.0%} to {high:.0%}: it may not learn)"
        rows |= {
            "demonstrations": str(manifest["demonstrations"]),
            "validation accuracy, sampled": f"{accuracy['sampled']:.1%}{outside}",
            "validation accuracy, greedy": f"{accuracy['greedy']:.1%}",
        }
    return rows

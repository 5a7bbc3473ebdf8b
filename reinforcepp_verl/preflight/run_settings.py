"""Settings of the whole run: names, checkpoints and validation; verl does not check them before loading the models."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.schema import as_tree, known_keys

EXAMPLES = {keys.RUNS_DIR: "runs", keys.EXPERIMENT_NAME: "my_run"}
CHECKPOINT_NODES = (keys.ACTOR_CHECKPOINT, keys.CRITIC_CHECKPOINT)


def check(config: DictConfig) -> list[str]:
    """Check the names and the samples, then the checkpoint folder and the validation switches."""
    checks = (_names, _runs_dir, _samples, _checkpoints, _val_only)
    return [problem for check_part in checks for problem in check_part(config)]


def _names(config: DictConfig) -> list[str]:
    return [
        f"{key} is {given!r}: it must be nonempty text; set {key}={example}"
        for key, example in EXAMPLES.items()
        if not (isinstance(given := value(config, key), str) and given.strip())
    ]


def _runs_dir(config: DictConfig) -> list[str]:
    """Check that no part of the path is a file. Whether it can be written is known where the run starts."""
    folder = Path(str(value(config, keys.RUNS_DIR))).expanduser()
    file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
    return [f"{keys.RUNS_DIR} is {folder}: {file} is a file; set {keys.RUNS_DIR} to a folder"] if file else []


def _samples(config: DictConfig) -> list[str]:
    if value(config, keys.SAMPLES) is not None:
        return []
    return [f"{keys.SAMPLES} is null: remove this setting; {keys.SAMPLES}.groups_per_step=0 keeps no samples"]


def _checkpoints(config: DictConfig) -> list[str]:
    found = []
    for node in CHECKPOINT_NODES:
        key, saved = f"{node}.async_save", f"{node}.save_contents"
        if value(config, key):
            found.append(f"{key} is true: the end of a background save cannot be detected; set {key}=false")
        if "model" not in (value(config, saved) or ()):
            found.append(f"{saved} is {value(config, saved)}: a checkpoint without model cannot be resumed; add model")
    keep, keep_critic = value(config, keys.MAX_ACTOR_CKPT_TO_KEEP), value(config, keys.MAX_CRITIC_CKPT_TO_KEEP)
    if keep_critic not in (None, keep):
        found.append(
            f"{keys.MAX_CRITIC_CKPT_TO_KEEP} is {keep_critic!r}: actor and critic of a checkpoint are kept or deleted "
            f"together; set only {keys.MAX_ACTOR_CKPT_TO_KEEP}"
        )
    # Compared unresolved: the base's value refers to trainer.experiment_name, which the user may set.
    given, base = (tree["trainer"].get("default_local_dir") for tree in (as_tree(config), known_keys()))
    if given is None or given == base:
        return found
    return [
        *found,
        f"{keys.DEFAULT_LOCAL_DIR} is {given}: `reinforcepp train` saves checkpoints in the run folder; remove "
        "it and set runs_dir; to continue a run: reinforcepp resume RUN",
    ]


def _val_only(config: DictConfig) -> list[str]:
    if not value(config, keys.VAL_ONLY) or value(config, keys.VAL_BEFORE_TRAIN):
        return []
    return [
        f"{keys.VAL_ONLY} is true and {keys.VAL_BEFORE_TRAIN} is {value(config, keys.VAL_BEFORE_TRAIN)}: verl would "
        f"train instead of validating; set {keys.VAL_BEFORE_TRAIN}=true"
    ]

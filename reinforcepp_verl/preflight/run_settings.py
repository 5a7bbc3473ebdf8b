"""The run as a whole: its length, seed, names and folders, none of which verl checks before the models are loaded."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config.reading import is_count, is_number, value
from reinforcepp_verl.config.schema import as_tree, known_keys

EPOCHS, STEPS = "trainer.total_epochs", "trainer.total_training_steps"
NAMES = {"runs_dir": "runs", "trainer.experiment_name": "my_run"}
CHECKPOINTS = ("actor_rollout_ref.actor.checkpoint", "critic.checkpoint")
KEEP, KEEP_CRITIC = "trainer.max_actor_ckpt_to_keep", "trainer.max_critic_ckpt_to_keep"
FREQUENCIES = {"trainer.save_freq": "save", "trainer.test_freq": "validate"}
VAL_ONLY, VAL_FIRST = "trainer.val_only", "trainer.val_before_train"


def check(config: DictConfig) -> list[str]:
    """Check types first to last, then the checkpoint folder and the validation switches."""
    checks = (_length, _frequencies, _seed, _names, _checkpoints, _val_only)
    return [problem for check_part in checks for problem in check_part(config)]


def _length(config: DictConfig) -> list[str]:
    found = []
    epochs, steps = value(config, EPOCHS), value(config, STEPS)
    if not is_count(epochs):
        found.append(f"{EPOCHS} is {epochs!r}: set {EPOCHS} to an integer >= 1")
    if steps is not None and not is_count(steps):
        found.append(f"{STEPS} is {steps!r}: set {STEPS} to an integer >= 1, or to null for all of {EPOCHS}")
    return found


def _frequencies(config: DictConfig) -> list[str]:
    return [
        f"{key} is {given!r}: set {key} to an integer, the steps between two; -1 to {verb} never"
        for key, verb in FREQUENCIES.items()
        if not isinstance(given := value(config, key), int) or isinstance(given, bool)
    ]


def _seed(config: DictConfig) -> list[str]:
    seed = value(config, "seed")
    # vLLM seeds NumPy with it, which takes no negative number.
    if is_number(seed) and isinstance(seed, int) and seed >= 0:
        return []
    return [f"seed is {seed!r}: it must be an integer >= 0; set seed=1"]


def _names(config: DictConfig) -> list[str]:
    return [
        f"{key} is {given!r}: it must be a text that is not empty; set {key}={example}"
        for key, example in NAMES.items()
        if not (isinstance(given := value(config, key), str) and given.strip())
    ]


def _checkpoints(config: DictConfig) -> list[str]:
    found = []
    for node in CHECKPOINTS:
        key, saved = f"{node}.async_save", f"{node}.save_contents"
        if value(config, key):
            found.append(f"{key} is true: the end of a save in the background cannot be seen; set {key}=false")
        if "model" not in (value(config, saved) or ()):
            found.append(
                f"{saved} is {value(config, saved)}: a checkpoint without model cannot be continued; add model"
            )
    keep, keep_critic = value(config, KEEP), value(config, KEEP_CRITIC)
    if keep_critic not in (None, keep):
        found.append(f"{KEEP_CRITIC} is {keep_critic!r}: a checkpoint is kept or deleted as a whole; set {KEEP} only")
    if keep is not None and not is_count(keep):
        found.append(f"{KEEP} is {keep!r}: set {KEEP} to an integer >= 1, or to null to keep all")
    # Compared as written: the base's value refers to trainer.experiment_name, which is the user's to set.
    given, base = (tree["trainer"].get("default_local_dir") for tree in (as_tree(config), known_keys()))
    if given is None or given == base:
        return found
    return [
        *found,
        f"trainer.default_local_dir is {given}: `reinforcepp train` puts checkpoints into the run's own folder; remove "
        "it and set runs_dir; to continue a run: reinforcepp resume RUN",
    ]


def _val_only(config: DictConfig) -> list[str]:
    if not value(config, VAL_ONLY) or value(config, VAL_FIRST):
        return []
    return [
        f"{VAL_ONLY} is true and {VAL_FIRST} is {value(config, VAL_FIRST)}: verl would train and not validate; "
        f"set {VAL_FIRST}=true"
    ]

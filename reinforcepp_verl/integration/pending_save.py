"""A save that verl has written and that is verified in the background: synced to disk, read back, its weights finite.

Training waits for it only briefly, because the disk may need longer than the save itself: the checkpoint becomes valid
after a later step then.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from reinforcepp_verl.checkpoints import manifest
from reinforcepp_verl.guards.finite_weights import check_finite_weights

PATIENCE = 0.2
"""Share of the duration of verl's save that training also waits for the verification."""
LEAST_PATIENCE_S = 5.0


class PendingSave:
    """The folder of a save, and its verification."""

    def __init__(self, folder: Path, step: int, models: Sequence[str], workers: int, seconds: float) -> None:
        """Start the verification.

        `models` are the folders in it that hold the shards of `workers` FSDP workers; `seconds` is what the save took.
        """
        self.folder, self.step = folder, step
        self._models, self._workers = models, workers
        self._patience_s = max(LEAST_PATIENCE_S, PATIENCE * seconds)
        pool = ThreadPoolExecutor(1, "verify-save")
        # Listed here: the trainer may add the metrics of the step meanwhile.
        self._files = pool.submit(self._verified, manifest.files_of(folder))
        pool.shutdown(wait=False)

    def verified(self, *, wait_for_it: bool) -> bool:
        """Return whether it is verified, after waiting for it, or for as long as training should wait in all."""
        patience, self._patience_s = self._patience_s, 0.0
        done, _ = wait([self._files], timeout=None if wait_for_it else patience)
        return bool(done)

    def files(self) -> manifest.Files:
        """Return what the manifest says about its files, also about those that were added since.

        Raises:
            FileNotFoundError: shards are missing
            GuardError: weights are not finite
        """
        return manifest.describe_files(self.folder, self._files.result())

    def _verified(self, files: Sequence[Path]) -> manifest.Files:
        for model in self._models:
            _refuse_missing_shards(self.folder / model, self._workers)
            check_finite_weights(self.folder / model, self._workers)
        return manifest.describe(files, self.folder)


def _refuse_missing_shards(folder: Path, workers: int) -> None:
    found = len(list(folder.glob("model_world_size_*_rank_*.pt")))
    if found != workers:
        raise FileNotFoundError(
            f"{folder} holds {found} of {workers} shards: checkpoints must be on a file system shared by all nodes; "
            "set runs_dir to one"
        )

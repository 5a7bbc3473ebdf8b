"""The folder RUN/samples: one JSONL file per step, within a limit for all of them.

A step that is repeated replaces its file, so a step is never in the folder twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reinforcepp_verl.common import durable
from reinforcepp_verl.training_samples.record import PromptSample, from_line, to_lines

SUFFIX = ".jsonl"


class SampleFiles:
    """Reads and writes the samples of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps that are kept, in order."""
        names = (path.stem for path in self.folder.glob(f"*{SUFFIX}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def read(self, step: int) -> list[PromptSample]:
        """Return the samples of a step.

        Raises:
            ValueError: the file is missing or damaged; the message has the fix
        """
        path = self._file(step)
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            raise ValueError(f"{path}: no such file; {_nearest(step, self.steps())}") from None
        samples = []
        for number, line in enumerate(lines, start=1):
            try:
                samples.append(from_line(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}; delete that file, or read another step") from error
        return samples

    def write(self, step: int, samples: Sequence[PromptSample], max_bytes: float) -> None:
        """Write the samples of a step, and thin out the folder if it has more than `max_bytes` now."""
        self.folder.mkdir(exist_ok=True)
        durable.write(self._file(step), to_lines(samples))
        self._thin_out(max_bytes)

    def discard_after(self, step: int) -> None:
        """Remove the samples of later steps: an attempt that starts from `step` repeats them."""
        for later in self.steps():
            if later > step:
                self._file(later).unlink()

    def _thin_out(self, max_bytes: float) -> None:
        """Remove files until the rest fits: those with an odd step first, then those divisible by 2 only, and so on.

        Of these, the oldest is first. What remains covers the whole run, the end more densely. The first and the last
        step are kept.
        """
        sizes = {step: self._file(step).stat().st_size for step in self.steps()}
        total = sum(sizes.values())
        for step in sorted([*sizes][1:-1], key=lambda step: (step & -step, step)):
            if total <= max_bytes:
                return
            self._file(step).unlink()
            total -= sizes[step]

    def _file(self, step: int) -> Path:
        return self.folder / f"{step}{SUFFIX}"


def _nearest(step: int, kept: list[int]) -> str:
    if not kept:
        return "the run has kept no samples"
    near = min(kept, key=lambda other: abs(other - step))
    return f"of {len(kept)} kept steps from {kept[0]} to {kept[-1]}, the nearest is {near}"

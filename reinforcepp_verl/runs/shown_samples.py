"""Chooses the steps whose samples are shown between the rows of the console."""

from __future__ import annotations

from reinforcepp_verl.config.sample_options import SampleOptions
from reinforcepp_verl.training_samples.files import SampleFiles
from reinforcepp_verl.training_samples.show import summary_lines

EVERY_ON_A_TERMINAL = 20


class ShownSamples:
    """The first prompt of the first step of an attempt, and of every N-th step."""

    def __init__(self, files: SampleFiles, options: SampleOptions, *, on_terminal: bool) -> None:
        every = options.console_every
        if every is None:
            every = EVERY_ON_A_TERMINAL if on_terminal else 0
        self._files, self._every = files, every if options.groups_per_step else 0
        self._shown_any = False

    def lines(self, step: int, width: int) -> list[str]:
        """Return what is shown after the row of a step, usually nothing."""
        is_due = self._every and (not self._shown_any or step % self._every == 0)
        # A row may be that of a validation alone, before the training.
        if not is_due or step not in self._files.steps():
            return []
        self._shown_any = True
        try:
            samples = self._files.read(step)
        except (ValueError, OSError) as error:
            # A sample that cannot be shown does not stop the run.
            return [f"  no sample: {error}"]
        return summary_lines(samples[0], width) if samples else []

"""Guards end a run that goes wrong, with the reason and before it saves.

`metric_guards.py` checks the metrics of a step, `finite_weights.py` the weights of a checkpoint, and `watchdog.py` the
processes of the run, which `actors.py` finds. Imports `config`.
"""

from __future__ import annotations

END_OF_RUN = "guards: %s; ending the run"
"""What the watchdog logs before it ends the run; the cause of the failure is read from it."""


class GuardError(RuntimeError):
    """A guard has ended the run."""

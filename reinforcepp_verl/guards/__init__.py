"""Guards: a sick run ends, with its reason and before it saves, instead of going on for days.

`limits.py` judges the metrics of a step, `weights.py` the weights of a checkpoint, `watch.py` the processes of the run,
which `parts.py` finds. `options.py` is the config node `guards`.
"""

from __future__ import annotations


class GuardError(RuntimeError):
    """A guard has ended the run."""

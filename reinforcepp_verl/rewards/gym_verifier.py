"""Calls the verifier of a reasoning-gym task; runs in a worker process that can be killed.

Nine verifiers evaluate an answer as Python: four by `eval`, five by sympy's `parse_expr`, which calls it. Limits on
time and memory do not keep such code from deleting files, so here no verifier gets any.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from typing import Any

from reinforcepp_verl.common import entry_json
from reinforcepp_verl.rewards import gym_package

EVALUATE = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Tasks that pass an answer to `eval`, for lists; they get `ast.literal_eval` instead."""
PARSE = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
"""Tasks that pass an answer to `sympy.parse_expr`; they get only answers that are `_EXPRESSION`."""
_FUNCTIONS = (
    "Abs|Rational|a?(?:sin|cos|tan|cot|sec|csc)h?|arc(?:sin|cos|tan)"
    "|ceiling|erfi?|exp|factorial|floor|li|ln|log|pi|sqrt"
)
_EXPRESSION = re.compile(rf"(?:[\d\s.,()+\-*/^!]|(?<![^\W\d])(?:[A-Za-z]|{_FUNCTIONS})(?!\w))*")


def verify(task: str, config: str, entry: str, answer: str) -> float:
    """Return the score that the verifier of a task gives to an answer; `config` and `entry` are JSON."""
    readable = None if task in PARSE and not _EXPRESSION.fullmatch(answer) else answer
    return float(_data_set(task, config).score_answer(readable, entry_json.loads(entry)))


@functools.cache
def _data_set(task: str, config: str) -> Any:
    """Return the data set whose settings the verifier reads."""
    data_set = gym_package.factory().create_dataset(task, seed=0, size=1, **entry_json.loads(config))
    if task in EVALUATE:
        vars(sys.modules[type(data_set).__module__])["eval"] = ast.literal_eval
    return data_set

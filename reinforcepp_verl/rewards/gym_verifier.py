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
from reinforcepp_verl.rewards.expressions import NOT_PARSED

EVALUATE = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""Tasks that pass an answer to `eval`, for lists; they get `ast.literal_eval` instead."""
PARSE = frozenset(
    {"countdown", "intermediate_integration", "polynomial_multiplication", "puzzle24", "simple_integration"}
)
"""Tasks that pass an answer to `sympy.parse_expr`; they get only what `_EXPRESSION` matches.

Not `Integral`: the verifiers of integrals differentiate an answer, so that the question itself would be right.
"""
ANY_TEXT = frozenset({"game_of_life_halting"})
"""Tasks whose verifier takes any text for right (it compares `bool` of texts); here the text is compared."""
_FUNCTIONS = (
    "Abs|Rational|a?(?:sin|cos|tan|cot|sec|csc)h?|arc(?:sin|cos|tan)"
    "|ceiling|erfi?|exp|factorial|floor|li|ln|log|pi|sqrt"
)
_EXPRESSION = re.compile(rf"(?:[\d\s.,()+\-*/^!]|(?<![^\W\d])(?:[A-Za-z]|{_FUNCTIONS})(?!\w))*")


def verify(task: str, config: str, entry: str, answer: str) -> tuple[float, str]:
    """Return the score that the verifier of a task gives to an answer, and why it cannot read it, "" if it can.

    `config` and `entry` are JSON. Some verifiers raise on any text of another form, which is as wrong as text that the
    others read.
    """
    data_set, question = _data_set(task, config), entry_json.loads(entry)
    if task in ANY_TEXT:
        return float(answer.lower() == str(question["answer"]).lower()), ""
    readable = None if task in PARSE and not _EXPRESSION.fullmatch(answer) else answer
    try:
        score = float(data_set.score_answer(readable, question))
    except MemoryError:
        raise
    except Exception:  # a verifier may raise anything
        return 0.0, NOT_PARSED
    return score, NOT_PARSED if readable is None else ""


@functools.cache
def _data_set(task: str, config: str) -> Any:
    """Return the data set whose settings the verifier reads."""
    data_set = gym_package.factory().create_dataset(task, seed=0, size=1, **entry_json.loads(config))
    if task in EVALUATE:
        vars(sys.modules[type(data_set).__module__])["eval"] = ast.literal_eval
    return data_set

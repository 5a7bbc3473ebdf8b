r"""Compares our verdicts with those of math-verify and of verl's scorers on the test sets of other projects.

    git clone https://github.com/huggingface/Math-Verify && git clone https://github.com/huggingface/lighteval
    python benchmarks/answer_sets.py Math-Verify/tests lighteval/tests/unit/metrics/test_extractive_match.py
    python benchmarks/answer_sets.py NeMo-Skills/tests/test_math_equal.py MARIO_EVAL/math_evaluation/tests

The files are read, not run: the literal cases of `parametrize` (ground truth, answer, expected), and for MARIO_EVAL the
assignments before each assertion. Rows for options that other scorers lack are left out, as are sentences that mark no
answer: which of their numbers it is depends on the format that the prompt asks for. Other answers without a box are put
into one. Prints, for every set, the cases judged as the set expects, and errors as false positives / false negatives.
"""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from rich.console import Console
from rich.progress import track
from rich.table import Table
from verl.utils.reward_score import math_dapo, math_reward, prime_math

from reinforcepp_verl.rewards.math import compute_score

EXPECTED = ("expected", "result")
OTHER_RULES = ("strict", "allow_set_relation_comp", "config")
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL)
WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
MARKED = re.compile(r"\\boxed|final answer is.*I hope it is correct", re.DOTALL)
LONGEST_ANSWER = 3
"""Words outside of formulas in an answer; more make a sentence."""


class Case(NamedTuple):
    """A ground truth, an answer, and whether they are equal according to the set."""

    truth: str
    answer: str
    equal: bool


def parametrized(tree: ast.Module) -> Iterator[Case]:
    """Read `@pytest.mark.parametrize("gold,pred,expected", [...])`, in any order and among other columns."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("parametrize"):
                yield from rows(decorator, function.name)


def rows(decorator: ast.Call, function: str) -> Iterator[Case]:
    """Read the literal rows of one parametrization; rows with other expressions are left out."""
    names, values = ast.literal_eval(decorator.args[0]), decorator.args[1]
    columns = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    for row in values.elts if isinstance(values, ast.List | ast.Tuple) else []:
        try:
            cells = ast.literal_eval(row)
        except ValueError:
            continue
        if columns == ["output_pair"] and None not in cells:  # NeMo-Skills tries both directions
            first, second = str(cells[0]), str(cells[1])
            equal = "incorrect" not in function
            yield from (Case(first, second, equal), Case(second, first, equal))
        named = (
            dict(zip(columns, cells, strict=True)) if isinstance(cells, tuple) and len(cells) == len(columns) else {}
        )
        if any(name in named for name in OTHER_RULES):
            continue
        expected = [named[name] for name in EXPECTED if name in named]
        if expected and isinstance(named.get("gold"), str) and isinstance(named.get("pred"), str):
            yield Case(named["gold"], named["pred"], bool(expected[0]))


def asserted(tree: ast.Module) -> Iterator[Case]:
    """Read MARIO_EVAL's tests: `test_in = ...; test_out = ...; self.assertTrue(... test_in, test_out ...)`."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        values: dict[str, str] = {}
        for statement in function.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                if isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str):
                    values[statement.targets[0].id] = statement.value.value
            elif isinstance(statement, ast.Expr) and {"test_in", "test_out"} <= values.keys():
                call = ast.unparse(statement)
                if call.startswith(("self.assertTrue", "self.assertFalse")) and "test_in, test_out" in call:
                    yield Case(values["test_in"], values["test_out"], call.startswith("self.assertTrue"))


def read(path: Path) -> list[Case]:
    """Return the cases of a file, or of the test files in a folder, each once."""
    files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    trees = [ast.parse(file.read_text()) for file in files]
    cases = dict.fromkeys(case for tree in trees for reader in (parametrized, asserted) for case in reader(tree))
    return [case for case in cases if not (unmarked_sentence(case.truth) or unmarked_sentence(case.answer))]


def unmarked_sentence(text: str) -> bool:
    """Return True for words in which the answer has to be found, without a mark."""
    return not MARKED.search(text) and len(WORD.findall(FORMULA.sub("", text))) > LONGEST_ANSWER


def solution(answer: str) -> str:
    """Return the answer as a model gives it: in a box, unless it is marked."""
    return answer if MARKED.search(answer) else rf"\boxed{{{answer}}}"


def ours(case: Case) -> bool:
    return compute_score("math", solution(case.answer), case.truth)["acc"] == 1


def math_verify(case: Case) -> bool:
    """math-verify as its README calls it."""
    targets = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    return verify(parse(in_dollars(case.truth), targets), parse(solution(case.answer), targets))


def in_dollars(truth: str) -> str:
    return truth if "$" in truth or "\\boxed" in truth else f"${truth}$"


def verl_math_reward(case: Case) -> bool:
    return math_reward.compute_score(solution(case.answer), case.truth) == 1


def verl_math_dapo(case: Case) -> bool:
    return math_dapo.compute_score(f"Answer: {case.answer}", case.truth)["acc"] is True


def verl_prime_math(case: Case) -> bool:
    return bool(prime_math.compute_score(solution(case.answer), case.truth)[0])


SCORERS: dict[str, Callable[[Case], bool]] = {
    "ours": ours,
    "math-verify": math_verify,
    "verl math_reward": verl_math_reward,
    "verl math_dapo": verl_math_dapo,
    "verl prime_math": verl_prime_math,
}


def is_scored_right(scorer: Callable[[Case], bool], case: Case) -> bool:
    """Return the verdict; a scorer that fails gives no reward."""
    try:
        return scorer(case)
    except Exception:  # noqa: BLE001 - what other projects' scorers raise is part of the comparison
        return False


def main(
    sets: Annotated[list[Path], typer.Argument(help="Test files, or folders with test_*.py.", exists=True)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write every case and verdict here.")] = None,
) -> None:
    """Print verdicts side by side."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    table = Table("set", "cases", *SCORERS)
    details = []
    for path in sets:
        cases = read(path)
        if not cases:
            raise typer.BadParameter(f"{path}: no literal cases found")
        verdicts = {
            name: [is_scored_right(scorer, case) for case in track(cases, f"{path.name}: {name}", transient=True)]
            for name, scorer in SCORERS.items()
        }
        table.add_row(str(path), str(len(cases)), *(summary(cases, given) for given in verdicts.values()))
        for index, case in enumerate(cases):
            details.append({**case._asdict(), "set": str(path), **{name: v[index] for name, v in verdicts.items()}})
    Console(width=120).print(table)
    if output is not None:
        output.write_text("".join(json.dumps(detail, ensure_ascii=False) + "\n" for detail in details))


def summary(cases: list[Case], verdicts: list[bool]) -> str:
    """Return the share of cases judged as expected, and false positives / false negatives."""
    false_positives = sum(given and not case.equal for case, given in zip(cases, verdicts, strict=True))
    false_negatives = sum(case.equal and not given for case, given in zip(cases, verdicts, strict=True))
    share = 1 - (false_positives + false_negatives) / len(cases)
    return f"{share:.1%} ({false_positives}/{false_negatives})"


if __name__ == "__main__":
    typer.run(main)

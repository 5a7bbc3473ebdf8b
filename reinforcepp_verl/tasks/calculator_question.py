"""Questions of two operations, and how a careful and a sloppy teacher answer them with a calculator for one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from reinforcepp_verl.tasks.calculator import CalculatorError, CalculatorLimits, calculate

TOOL = "calculator"
ONE_OPERATION = CalculatorLimits(max_operations=1)
ERROR_PREFIX = "error: "
ANSWER_MARK = "#### "
CALL_START, CALL_END = "<tool_call>", "</tool_call>"
ARGUMENTS_START, ARGUMENTS_END = f'{{"name": "{TOOL}", "arguments": {{"expression": "', '"}}'
TEMPLATES = ("{a}+{b}*{c}", "({a}+{b})*{c}", "{a}*{c}+{b}", "{a}*{c}-{b}")
UNCLEAR_ORDER = 2
"""The first templates, in which only the parentheses tell which operation comes first."""


def observation(expression: str, limits: CalculatorLimits = ONE_OPERATION) -> str:
    """Return what the tool answers: the value, or `error: ` and the reason."""
    try:
        return calculate(expression, limits)
    except CalculatorError as error:
        return f"{ERROR_PREFIX}{error}"


@dataclass(frozen=True, order=True)
class Question:
    """One question: a and b in 10..99, c in 2..9."""

    template: int
    a: int
    b: int
    c: int

    @property
    def text(self) -> str:
        """The expression as asked."""
        return TEMPLATES[self.template].format(a=self.a, b=self.b, c=self.c)

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a chat with one message."""
        return [{"role": "user", "content": self.text}]

    @property
    def answer(self) -> str:
        """The correct answer."""
        return calculate(self.text)


@dataclass(frozen=True)
class Turn:
    """What the model says, and what the tool answers; None ends the session."""

    said: str
    heard: str | None = None


@dataclass(frozen=True)
class Errors:
    """How often the sloppy teacher errs, where it can."""

    wrong_order: float = 0.6
    stops_early: float = 0.2
    whole_expression: float = 0.15
    misread_digit: float = 0.1


def call(expression: str) -> Turn:
    """Call the tool, in the format of verl's parser `hermes`, and hear its answer."""
    said = f"{CALL_START}{ARGUMENTS_START}{expression}{ARGUMENTS_END}{CALL_END}"
    return Turn(said, observation(expression))


def answer(text: str) -> Turn:
    """End the session with an answer."""
    return Turn(f"{ANSWER_MARK}{text}")


def careful_session(question: Question) -> list[Turn]:
    """Do one operation after the other, and answer with the last result."""
    first, second = _steps(question, wrong_order=False)
    return [first, second, answer(str(second.heard))]


def sloppy_session(question: Question, errors: Errors, draw: random.Random) -> list[Turn]:
    """Do the wrong operation first, stop after one, ask for both at once and give up, or misread the result."""
    order, stop, whole, misread = (draw.random() for _ in range(4))
    if whole < errors.whole_expression:
        return [call(question.text), answer(str(question.a))]
    wrong_order = question.template < UNCLEAR_ORDER and order < errors.wrong_order
    first, second = _steps(question, wrong_order=wrong_order)
    if stop < errors.stops_early:
        return [first, answer(str(first.heard))]
    result = str(second.heard)
    if misread < errors.misread_digit:
        place = draw.randrange(len(result))
        result = f"{result[:place]}{(int(result[place]) + draw.randint(1, 9)) % 10}{result[place + 1 :]}"
    return [first, second, answer(result)]


def questions(count: int, seed: int) -> list[Question]:
    """Return different questions with positive answers, each template equally often."""
    draw, found = random.Random(seed), dict[Question, None]()
    while len(found) < count:
        question = Question(len(found) % len(TEMPLATES), draw.randint(10, 99), draw.randint(10, 99), draw.randint(2, 9))
        if int(question.answer) > 0:
            found[question] = None
    return list(found)


def _steps(question: Question, *, wrong_order: bool) -> Iterator[Turn]:
    a, b, c = question.a, question.b, question.c
    kind = 1 - question.template if wrong_order else question.template
    first = call((f"{b}*{c}", f"{a}+{b}", f"{a}*{c}", f"{a}*{c}")[kind])
    yield first
    yield call((f"{a}+{first.heard}", f"{first.heard}*{c}", f"{first.heard}+{b}", f"{first.heard}-{b}")[kind])

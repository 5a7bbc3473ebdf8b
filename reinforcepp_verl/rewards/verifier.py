"""Compares an answer with the ground truth: as text and plain numbers, then by math-verify in a worker process."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from reinforcepp_verl.rewards import structure
from reinforcepp_verl.rewards.expression_limits import MAX_DIGITS, too_large, unbalanced
from reinforcepp_verl.rewards.expressions import GROUND_TRUTH_NOT_PARSED, NOT_PARSED, VerifyResult, compare_expressions
from reinforcepp_verl.rewards.extraction import extract_answer
from reinforcepp_verl.rewards.failures import NO_GROUND_TRUTH
from reinforcepp_verl.rewards.inequalities import as_interval, as_intervals, condition, is_interval
from reinforcepp_verl.rewards.notation import lists_by_blanks, normal_form
from reinforcepp_verl.rewards.units import singular, with_marked_letter, without_unit, without_units, words_differ
from reinforcepp_verl.rewards.words import EXCEPTION

_PERCENT = "\\%"
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(rf"[-+]?(?:{_DECIMAL}(?:[eE][-+]?\d{{1,3}})?|\d+/\d+|\\frac\{{\d+\}}\{{\d+\}})")
_DECIMALS = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_FRACTION = re.compile(r"\\frac\{(\d+)\}\{(\d+)\}")
_SCIENTIFIC = re.compile(
    rf"(?:([-+]?{_DECIMAL})(?:\\times|\\cdot|\*) ?)?10\^(?:\{{([-+]?\d{{1,3}})\}}|([-+]?\d{{1,3}}))"
)
# Two letters are as likely a product, whose factors may be in any order.
_WORDS = re.compile(r"\\text\{([^{}]*)\}|([A-Za-z]{3,}|[Nn]o|[Oo]n)")
_DECIMAL_COMMA = re.compile(r"^((?:\\\$|[^\w(\[{\\])*(?:0|\d+(?!,\d{3}(?!\d))|\d{4,})),(\d+)(?=[^\d,.]*$)")
_HAS_POINT = re.compile(r"\d\.\d")
_TRANSPOSED = re.compile(r"\^\{?(?:T|\\top)\}?(?![a-zA-Z])")
_UNCLOSED_BOX = re.compile(r"^\\{1,2}(?:boxed|fbox) *\{")
_CHOICE_WITH_TEXT = re.compile(
    r"(?:\\text[a-z]*\{)? *(?:\(([A-Z])\) *\}? *(?:\\text)?.+|([A-Z])(?:[.):] ?\}? ?| (?=[A-Z])(?<!A ))[\w\\].*)",
    re.DOTALL,
)
_TEXT_COMMAND = re.compile(r"\\text\{([^{}]*)\}")
_APART = re.compile(r"\d\s+\d")
_MULTIPLE = re.compile(r"[-+]?\d+(?:\.\d+)? ?[A-Za-z]{2,}")
_PRIME = re.compile(r"\w\)?('+)")
_SYMBOL = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|\\[A-Za-z]+")
_CHOICE = re.compile(r"[A-Da-d]")
_ENDLESS = re.compile(r"(?<![\d.])\d+\\[lc]?dots")
# Permutations, which math-verify takes for sums: (1 2)(3 4).
_CYCLES = re.compile(r"(?:\(\d{2,}\)){2,}|(?:\(\d+(?: \d+)+\))+")
_TIME = re.compile(r"\d{1,2}:[0-5]\d")
_RATIO = re.compile(r"\d+(?:\.\d+)?(?:: ?\d+(?:\.\d+)?)+")
_DATE = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)")
# Without I, V and X it is as likely the name of a segment.
_ROMAN = re.compile(r"(?=..)(?=.*[IVX])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_ARTICLE = re.compile(r"^(?:an?|the) (?=\w{2})")
_BASE = re.compile(r"\d_\{?(\w+)")


def normal_forms(truth: str, answer: str) -> tuple[str, str]:
    """Return both in one notation.

    Where one side shows by blanks that it is a list, 100,200 is one too; where one is 2.5, 2,5 is that number; where
    one is an interval, an inequality is one too.
    """
    truth, answer = _with_point(truth, answer), _with_point(answer, truth)
    expected_is_list, given_is_list = lists_by_blanks(truth), lists_by_blanks(answer)
    expected = condition(normal_form(truth, grouped=expected_is_list or not given_is_list))
    given = condition(normal_form(answer, grouped=given_is_list or not expected_is_list))
    if is_interval(expected) != is_interval(given):
        return as_interval(expected), as_interval(given)
    return as_intervals(expected, given)


def _with_point(text: str, other: str) -> str:
    """Write a decimal comma as a point if the other number has one. 1,234 stays: it has a thousands separator."""
    if not _HAS_POINT.search(other):
        return text
    pointed, found = _DECIMAL_COMMA.subn(r"\1.\2", text.replace("{,}", ","))
    return pointed if found else text


def decide(truth: str, answer: str) -> VerifyResult | None:
    """Compare two normal forms as text and as plain numbers; None if that does not decide it."""
    if not truth:
        return VerifyResult(False, NO_GROUND_TRUTH)
    if not answer:
        return VerifyResult(False, "no answer")
    # Most answers are plain numbers, here only for speed; Python does not parse integers of thousands of digits.
    if (truth + answer).isascii() and truth.isdecimal() and answer.isdecimal():
        return VerifyResult(truth.lstrip("0") == answer.lstrip("0"))
    if _DECIMALS.fullmatch(truth) and _DECIMALS.fullmatch(answer):
        expected, given = Fraction(truth), Fraction(answer)
        return VerifyResult(_close(expected, given) if "." in truth + answer else expected == given)
    verdict = structure.compare(truth, answer, compare_plain)
    return None if verdict is None else VerifyResult(verdict)


def compare_plain(truth: str, answer: str) -> bool | None:
    """Compare two single values as text and as plain numbers; None if that does not decide it."""
    if _squeezed(truth) == _squeezed(answer):
        return True
    if all(_ROMAN.fullmatch(text) for text in (truth, answer)):
        return False
    if (expected_date := _DATE.fullmatch(truth)) and (given_date := _DATE.fullmatch(answer)):
        return [int(part) for part in expected_date.groups()] == [int(part) for part in given_date.groups()]
    if (decided := _compare_words(truth, answer)) is not None:
        return decided
    if _RATIO.fullmatch(truth) or _RATIO.fullmatch(answer):
        expected_time, given_time = without_unit(truth), without_unit(answer)
        if _TIME.fullmatch(expected_time) and _TIME.fullmatch(given_time):
            return expected_time == given_time
        return _proportional(_ratio(expected_time), _ratio(given_time))
    for letter, text in ((truth, answer), (answer, truth)):
        if _letter(letter) and (chosen := _CHOICE_WITH_TEXT.fullmatch(text)):
            return letter in chosen.groups()
    truth, answer = with_marked_letter(truth, answer), with_marked_letter(answer, truth)
    if _unlike(truth, answer):
        return False
    (expected, truth_percent), (given, answer_percent) = (_number(without_unit(text)) for text in (truth, answer))
    if expected is None or given is None:
        apart = _is_multiple(truth, answer) or _is_multiple(answer, truth) or _differ_in_case(truth, answer)
        return False if apart else None
    if truth_percent == answer_percent:
        return _close(expected, given) if "." in truth + answer else expected == given
    # Data sets write percentages with and without the sign: 28% occurs as 28 as often as 0.28.
    percent, plain = (expected, given) if truth_percent else (given, expected)
    return _close(percent, plain) or _close(percent / 100, plain)


def compare(truth: str, answer: str) -> VerifyResult:
    """Compare two normal forms with math-verify, which may hang, crash or exhaust memory: run it in a worker."""
    reasons: list[str] = []

    def leaf(expected: str, given: str) -> bool:
        plain = compare_plain(expected, given)
        if plain is not None:
            return plain
        result = compare_expressions(without_units(expected), without_units(given))
        reasons.append(result.reason)
        return result.correct

    correct = bool(structure.compare(truth, answer, leaf))
    return VerifyResult(correct, "" if correct else max(reasons, default=""))


def reject_unsafe(truth: str, answer: str, max_chars: int, max_exponent: int) -> VerifyResult | None:
    """Refuse inputs that math-verify would hang on or misread; None for all others."""
    for text, whose, not_parsed in ((answer, "answer", NOT_PARSED), (truth, "ground truth", GROUND_TRUTH_NOT_PARSED)):
        if reason := too_large(text, max_chars, max_exponent):
            return VerifyResult(False, f"{whose} too large: {reason}")
        if unbalanced(text):
            return VerifyResult(False, not_parsed)
    return None


def _unlike(truth: str, answer: str) -> bool:
    """Return True for differences that math-verify does not see.

    It adds separate numbers (1 2 is 3), and drops bases (10_2 is 10), dots (5 dots is 5), primes and words before a
    number (not 5 is 5). It ignores the order of ratios and a transposition.
    """
    if any(differs.findall(truth.lower()) != differs.findall(answer.lower()) for differs in (_PRIME, EXCEPTION)):
        return True
    if _CYCLES.fullmatch(truth) or _CYCLES.fullmatch(answer):
        return True
    if len(_TRANSPOSED.findall(truth)) != len(_TRANSPOSED.findall(answer)):
        return True
    terms, other_terms = truth.split(":"), answer.split(":")
    if len(terms) > 1 and terms != other_terms and sorted(terms) == sorted(other_terms):
        return True
    if _APART.search(answer) and not _APART.search(truth):
        return True
    if sorted(_BASE.findall(answer)) != sorted(_BASE.findall(truth)) or words_differ(truth, answer):
        return True
    return bool(_ENDLESS.search(answer)) != bool(_ENDLESS.search(truth))


def _differ_in_case(truth: str, answer: str) -> bool:
    """Return True for X and x, which math-verify takes for one variable, but not for the choices C and c."""
    if _CHOICE.fullmatch(truth) and _CHOICE.fullmatch(answer):
        return False
    expected, given = (set(_SYMBOL.findall(_TEXT_COMMAND.sub("", text))) for text in (truth, answer))
    return expected != given and {s.lower() for s in expected} == {s.lower() for s in given}


@lru_cache(maxsize=1024)
def ground_truth_answer(truth: str) -> str:
    r"""Return the answer in a ground truth: its last `\boxed{}` or the part after `####`, else all of it."""
    if truth.isdecimal():
        return truth
    found = extract_answer(truth)
    if found.form == "none":
        return _UNCLOSED_BOX.sub("", truth.rpartition("####")[2].strip())
    return found.text


def _compare_words(truth: str, answer: str) -> bool | None:
    """Compare words as words; math-verify reads them as products of letters, so that "not" equals "ton"."""
    words = [match for text in (truth, answer) if (match := _WORDS.fullmatch(text))]
    if not any(match[1] for match in words) and len(words) < 2:
        return None
    expected, given = (_WORDS.sub(lambda match: match[1] or match[2], text).lower() for text in (truth, answer))
    return expected == given or singular(_ARTICLE.sub("", expected)) == singular(_ARTICLE.sub("", given))


def _ratio(text: str) -> list[Fraction]:
    """Return the terms of a ratio, or of a fraction; [] for anything else."""
    parts = text.split(":") if ":" in text else _FRACTION.sub(r"\1/\2", text).split("/")
    terms = [_number(part.strip())[0] for part in parts]
    return [term for term in terms if term is not None] if None not in terms else []


def _proportional(first: list[Fraction], second: list[Fraction]) -> bool:
    if len(first) != len(second) or not all((*first, *second)):
        return bool(first) and first == second
    return all(one * second[0] == other * first[0] for one, other in zip(first, second, strict=True))


def _squeezed(text: str) -> str:
    r"""Return a text without the marks of words: `5\\text{m}` and 5 m may both be a product."""
    return re.sub(r" ?([A-Za-z]+) ?", r"\1", _TEXT_COMMAND.sub(r"\1", text))


def _is_multiple(text: str, other: str) -> bool:
    """Return True for 5ab and 5: math-verify drops the letters as if they were a unit."""
    return bool(_MULTIPLE.fullmatch(text)) and _number(other)[0] is not None


def _letter(text: str) -> bool:
    return len(text) == 1 and text.isupper()


def _number(text: str) -> tuple[Fraction | None, bool]:
    """Parse a plain number, and return whether it is a percentage."""
    stripped = text.removesuffix(_PERCENT)
    if scientific := _SCIENTIFIC.fullmatch(stripped):
        return Fraction(scientific[1] or 1) * Fraction(10) ** int(scientific[2] or scientific[3]), stripped != text
    if len(stripped) > MAX_DIGITS or not _NUMBER.fullmatch(stripped):
        return None, False
    numerator, _, denominator = _FRACTION.sub(r"\1/\2", stripped).partition("/")
    if denominator and not int(denominator):
        return None, False
    return Fraction(numerator) / int(denominator or 1), stripped != text


def _close(expected: Fraction, given: Fraction) -> bool:
    """Compare rounded to 6 decimals, as math-verify does, and also to 6 digits; but 1.0000001 is not the integer 1."""
    if expected.denominator == 1 or expected.denominator == given.denominator:
        return expected == given
    apart = abs(expected - given)
    return apart <= Fraction(1, 10**6) and apart <= abs(expected) * Fraction(5, 10**6)

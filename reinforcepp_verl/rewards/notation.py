r"""Writes an answer in one notation: LaTeX without layout, numbers without thousands separators, units as `\text{}`."""

from __future__ import annotations

import re
from functools import lru_cache

from reinforcepp_verl.rewards.layout import SPACES, plain, unbraced
from reinforcepp_verl.rewards.numerals import improper, in_base, joined, multiplied, terminated, ungrouped
from reinforcepp_verl.rewards.symbols import as_latex
from reinforcepp_verl.rewards.units import mark_units
from reinforcepp_verl.rewards.words import in_digits

_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_ANSWER_IS = re.compile(
    r"^(\\text ?\{ *)?(?:the )?(?:(?:final |correct )?answer\b(?: is *:?| *:)|(?:choice|option)\b *:?)"
    r" *(\})? *(?=[^\s=])",
    re.IGNORECASE,
)
_FRACTION_COMMAND = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac *(?:([\da-zA-Z]|\\pi)|(\{[^{}]*\})) *(?:([\da-zA-Z])|(\{))")
_SHORT_BINOMIAL = re.compile(r"\\[dt]?binom *(\d) *(\d)")
_SHORT_ROOT = re.compile(r"\\sqrt *(\[\d+\])? *(\d+|[a-zA-Z])")
_ROOT_OF_BRACKET = re.compile(r"\\sqrt *\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"_ *(\w)(?=\s|$)")
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![a-z])([^{}]*)\}")
_PRODUCT_OF_POWERS = re.compile(r"(\^(?:\d|\{\d+\})) (?=\d+\^)")
_DEGREES_IN_FUNCTION = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{?-?\d\}?)?) ?[({]?(-?\d+(?:\.\d+)?) ?\^ ?\{?\\circ *\}?[)}]?"
)
_RATIO = re.compile(r"(\d+) ?(?:\\text ?\{ *to *\}|to|\\colon) ?(\d+)")
_TIME_OF_DAY = re.compile(r"(?<=\d) ?(?:\\text ?\{ *)?\b([AaPp])(?:\.[Mm]\.|[Mm]\b)(?: *\})?(?!\w)")
_TEXT_OF_TIME = re.compile(r"\\text ?\{ *(\d{1,2}:\d\d[^{}]*)\}")
_NUMBER_SET = re.compile(r"\\mathbb ?([A-Z])(?![a-zA-Z])")
_MODULUS = (
    r"(?:\\[pb]?mod(?![a-z])|\\(?:text|mathrm) ?\{ *mod(?:ulo)? *\}|(?<![a-zA-Z\\])mod(?:ulo)?(?![a-z])) ?"
    r"(?:\{ ?((?:\w|\^\{?\d+\}?)+) ?\}|(\d+(?:\^(?:\d+|\{\d+\}))?|[a-z])(?![\w.^]))"
)
_MODULO = re.compile(rf" ?\( ?{_MODULUS} ?\)| ?{_MODULUS}")
_EMPTY = re.compile(
    r"\\(?:varnothing|emptyset) ?|\\\{ *\\\}|(?:\\text ?\{ *)?(?:the )?empty set(?: *\})?", re.IGNORECASE
)
_REAL_LINE = re.compile(
    r"(?:\\text ?\{ *)?(?:the |all )?(?:real numbers|reals)\.?(?: *\})?|\\mathbb ?\{?R\}?|\(-\\infty, ?\\infty\)",
    re.IGNORECASE,
)
_WHOLE_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|textnormal)\s*\{([^{}]*)\}\.?")
_BARE_WORDS = re.compile(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})+")
_BRACKET = re.compile(r"[(\[]|\\\{")
_SEPARATES = re.compile(r";|(?<=\d) *(?:\\text ?\{ *)?(?:and|or)(?![a-z])")
_PERCENT = re.compile(r"(?<=[\d}]) ?(?:\\text\{ *)?(?:%|\b(?:percent(?:age)?|pct)\b) *\}?", re.IGNORECASE)
_PLUS = re.compile(r"(?:^|(?<=[(\[,{=])) *\+(?= *(?:\d|\\infty))")
_CHOICE = re.compile(r"(?:\\text[a-z]*\s*\{)?\s*(?:\(([A-Za-z])\)|([A-Z])[.):])\s*\}?")


@lru_cache(maxsize=1024)  # The answers of a group share their ground truth and often agree.
def normal_form(answer: str, *, grouped: bool = True) -> str:
    r"""Remove the parts of an answer that have no meaning: layout, `$`, spaces, a final period.

    Commas between groups of three digits are removed unless `grouped` is false or there are brackets: (12,102) is a
    point.
    """
    if _DIGITS.fullmatch(answer):
        return answer
    text = in_digits(plain(joined(as_latex(answer))))
    text = _fractions(_ANSWER_IS.sub(lambda words: r"\text{" if words[1] and not words[2] else "", text))
    text = _MODULO.sub(_pmod, _NUMBER_SET.sub(r"\\mathbb{\1}", text))
    if _REAL_LINE.fullmatch(text):
        return r"(-\infty, \infty)"
    text = _EMPTY.sub(r"\\emptyset ", _TEXT_OF_TIME.sub(r"\1", text))
    text = _TIME_OF_DAY.sub(lambda time: rf"\text{{{time[1].lower()}m}}", text)
    if whole := _WHOLE_TEXT.fullmatch(text):
        words = whole[1].strip().rstrip(".")
        if len(words) > 1 and words.replace(" ", "").isalpha():
            return rf"\text{{{words}}}"
        text = words
    elif _BARE_WORDS.fullmatch(text):
        return rf"\text{{{text}}}"
    text = _PLUS.sub("", unbraced(text.rstrip(".").strip()))
    if choice := _CHOICE.fullmatch(text):
        return choice[1] or choice[2]
    if ratio := _RATIO.fullmatch(text):
        return f"{ratio[1]}:{ratio[2]}"
    if (grouped and not _BRACKET.search(text)) or _SEPARATES.search(text):
        text = ungrouped(text)
    text = mark_units(_PERCENT.sub(r"\\%", multiplied(in_base(text))))
    # A space between two word characters separates them: 1 2 is not 12.
    return re.sub(r" (?=\W)|(?<=\W) ", "", text).replace(",", ", ")


def lists_by_blanks(answer: str) -> bool:
    """Return True if blanks show that the commas between numbers separate the items of a list: 100, 200."""
    if answer.isascii() and "," not in answer:
        return False
    return bool(re.search(r"\d, +\d", SPACES.sub(" ", joined(as_latex(answer)))))


def _fractions(text: str) -> str:
    r"""Write fractions, roots and binomials with braces, mixed numbers and repeating decimals as one fraction."""
    text = _FRACTION_COMMAND.sub(r"\\frac", _CHOOSE.sub(r"\\binom{\1}{\2}", text))
    text = _SHORT_FRACTION.sub(_braced, text)
    text = _SHORT_BINOMIAL.sub(r"\\binom{\1}{\2}", text)
    text = _SHORT_ROOT.sub(r"\\sqrt\1{\2}", _ROOT_OF_BRACKET.sub(r"\\sqrt{\1}", text))
    text = _SUBSCRIPT.sub(r"_{\1}", text)
    text = _DEGREES_IN_FUNCTION.sub(r"\1(\\frac{\2\\pi}{180})", text)
    return _PRODUCT_OF_POWERS.sub(r"\1\\cdot ", improper(terminated(text)))


def _pmod(modulo: re.Match[str]) -> str:
    return rf"\pmod{{{next(modulus for modulus in modulo.groups() if modulus)}}}"


def _braced(fraction: re.Match[str]) -> str:
    numerator = fraction[2] or f"{{{fraction[1]}}}"
    return rf"\frac{numerator}" + (f"{{{fraction[3]}}}" if fraction[3] else fraction[4])

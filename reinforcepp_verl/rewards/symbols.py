r"""Writes Unicode and plain text as LaTeX: `√2`, `²⁄₃`, `−5`, `pi`, `10**3`, `x >= 5`."""

from __future__ import annotations

import re

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_FRACTIONS = {
    **{"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5)},
    **{"⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8)},
    **{"⅑": (1, 9), "⅒": (1, 10)},
}
_ROOTS = {"√": "", "∛": "[3]", "∜": "[4]"}
_SYMBOLS = {
    **{chr(0xFF01 + index): chr(0x21 + index) for index in range(94)},  # full-width forms of ASCII
    **dict.fromkeys("−–—‒―﹣", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u2009\u202f\u2006\u2008", r"\,"),
    **dict.fromkeys("\u00a0\u3000\u2002\u2003", " "),
    **{"∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot "},
    **{"÷": "/", "⁄": "/", "∕": "/", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "≡": r"\equiv "},
    **{"±": r"\pm ", "∓": r"\mp ", "∈": r"\in ", "∅": r"\emptyset ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta "},
    **{"°": r"^\circ ", "º": r"^\circ ", "˚": r"^\circ ", "ℝ": r"\mathbb{R}", "Ω": r"\Omega ", "\u2126": r"\Omega "},
    **{"′": "'", "，": ",", "。": ".", "、": ",", "…": "...", "∠": r"\angle ", "⟨": r"\langle ", "⟩": r"\rangle "},
    "‰": r"\text{permille}",
    **{root: rf"\sqrt{index} " for root, index in _ROOTS.items()},
}
_TRANSLATION = str.maketrans(_SYMBOLS)
_ABOVE, _BELOW = (f"[{''.join(scripts)}]+" for scripts in (_SUPERSCRIPTS, _SUBSCRIPTS))
_SCRIPT_FRACTION = re.compile(rf"({_ABOVE})[⁄/∕]({_BELOW})")
_SCRIPT_ROOT = re.compile(rf"(?<![\w)}}\]])({_ABOVE})√")
_SCRIPTS = re.compile(rf"({_ABOVE})|({_BELOW})")
_VULGAR = re.compile(f"[{''.join(_FRACTIONS)}]")

_NAMES = re.compile(r"\\text ?\{ *(pi|infinity) *\}|(?<![A-Za-z\\])(pi|infinity|sqrt(?= ?[\d({]))(?![A-Za-z])")
_COMMANDS = {"pi": r"\pi ", "infinity": r"\infty ", "sqrt": r"\sqrt"}
_DOTS = re.compile(r"(?<=[,+]) *\.{3,}")
_LIST_GOES_ON = re.compile(r"([^.]*,[^.]*\w)\.{3,}")
_STARRED_POWER = re.compile(r"(?<=[\w)}])\*\*(?:\((-?\d+)\)|(-?\w+)|(?=[({\\]))")
_LETTER_TIMES = re.compile(r"(?<=\d) ?x ?(?=10(?:\^|\*\*))")
_OPERATORS = {"<=": r"\leq ", ">=": r"\geq ", "!=": r"\neq ", "=<": r"\leq ", ":=": "="}
_OPERATOR = re.compile(r"<=|>=|(?<!\d)!=|=<|:=")


def as_latex(text: str) -> str:
    """Replace Unicode symbols and the notation of plain text by LaTeX."""
    if not text.isascii():
        text = _from_unicode(text)
    text = _LIST_GOES_ON.sub(r"\1, \\ldots ", text) if _LIST_GOES_ON.fullmatch(text) else text
    text = _DOTS.sub(r"\\ldots ", _OPERATOR.sub(lambda found: _OPERATORS[found[0]], text))
    text = _STARRED_POWER.sub(_power, _LETTER_TIMES.sub(r"\\times ", text))
    return _NAMES.sub(lambda found: _COMMANDS[found[1] or found[2]], text)


def _from_unicode(text: str) -> str:
    text = _VULGAR.sub(lambda found: r"\frac{%d}{%d}" % _FRACTIONS[found[0]], text)  # noqa: UP031 - braces
    text = _SCRIPT_FRACTION.sub(lambda found: rf"\frac{{{_digits(found[1])}}}{{{_digits(found[2])}}}", text)
    text = _SCRIPT_ROOT.sub(lambda found: rf"\sqrt[{_digits(found[1])}] ", text)
    text = _SCRIPTS.sub(lambda found: ("^" if found[1] else "_") + f"{{{_digits(found[0])}}}", text)
    return text.translate(_TRANSLATION)


def _digits(scripts: str) -> str:
    return "".join(_SUPERSCRIPTS.get(character) or _SUBSCRIPTS[character] for character in scripts)


def _power(found: re.Match[str]) -> str:
    exponent = found[1] or found[2]
    return f"^{{{exponent}}}" if exponent else "^"

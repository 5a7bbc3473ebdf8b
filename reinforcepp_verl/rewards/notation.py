r"""Writes an answer in one notation: LaTeX without layout, numbers without thousands separators, units as `\text{}`."""

from __future__ import annotations

import re

from reinforcepp_verl.rewards.units import QUALIFIER, mark_units

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_FRACTIONS = {"½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅛": (1, 8), "⅜": (3, 8)}
_SYMBOLS = {
    **{chr(0xFF01 + index): chr(0x21 + index) for index in range(94)},  # full-width forms of ASCII
    **dict.fromkeys("−–—‒―﹣", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u2009\u202f\u2006\u2008", r"\,"),
    **dict.fromkeys("\u00a0\u3000\u2002\u2003", " "),
    **{"∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot "},
    **{"÷": "/", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp "},
    **{"°": r"^\circ ", "∈": r"\in ", "∅": r"\emptyset ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta "},
    **{"′": "'", "，": ",", "。": ".", "、": ",", "\u2264": r"\leq ", "∠": r"\angle ", "√": r"\sqrt "},
}
_TRANSLATION = str.maketrans(_SYMBOLS)
_SCRIPTS = re.compile(rf"([{''.join(_SUPERSCRIPTS)}]+)|([{''.join(_SUBSCRIPTS)}]+)")
_VULGAR = re.compile(f"[{''.join(_FRACTIONS)}]")

# `\!`, `\,` and braces around a comma join the digits of one number, also in brackets: 3,\!600 is not a list.
_JOIN = r"(?:,?\\[!,] *|\{,\}(?:\\!)?)"
_JOINED = re.compile(rf"(?<![\d.])(\d{{1,3}})((?:{_JOIN}\d{{3}})+)(?!\d)")
_SPACES = re.compile(r"\\(?:q?quad|hspace\*?\{[^{}]*\}|[,;:! ])|\\\s|~|\s+")
_LAYOUT = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|middle|[bB]igg?[lr]?|tiny|small|normalsize|large|Large|LARGE|huge"
    r"|Huge|bfseries|bf|rm|it|boldmath|centering|nonumber|qquad)(?![a-zA-Z])"
)
# JSON may have doubled the backslashes; no line of a matrix starts with the letters of a command.
_DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dt]?frac|sqrt|left|right|text|mathrm|mathbf|pi|infty|cup|cdot|times|circ|pm|begin|end|boxed)\b)"
)
_FORMULA = r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\(([^\n]+?)\\\)|\\\[(.+?)\\\]"
_SENTENCE = re.compile(rf"(?P<words>[A-Za-z][A-Za-z ,:]*)(?:{_FORMULA})\s*\.?", re.DOTALL)
_QUOTED = re.compile(r'\\?["“](.*?)\\?["”]', re.DOTALL)
_DELIMITER = re.compile(r"(?<!\\)\$|\\[()]|\\\[|\\\]")
_COLOR = re.compile(r"\\textcolor\s*\{[^{}]*\}|\\color\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}|\\(?:tag|label)\*?\s*\{[^{}]*\}")
_BOLD = re.compile(r"\\(?:boldsymbol|mathbf|bm|mathit|mathsf|mathtt|mathnormal|emph|underline|overline(?=\{\d+\}$))\s*")
_STARS = re.compile(r"(?<!\S)\*\*(.+)\*\*(?!\S)")
_FRACTION_COMMAND = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac *(?:(\d)|(\{[^{}]*\})) *(?:(\d)|(\{))")
_SHORT_ROOT = re.compile(r"\\sqrt *(\d+|[a-zA-Z])")
_ROOT_OF_BRACKET = re.compile(r"\\sqrt *\(([^()]*)\)")
_SUBSCRIPT = re.compile(r"_ *(\w)(?=\s|$)")
_MIXED = re.compile(r"(?<![\w.}/^_]) *(\d+) *(?:\\frac\{(\d+)\}\{(\d+)\}|(?<=\d )(\d+) */ *(\d+))(?![\d/!^])")
_PRODUCT_OF_POWERS = re.compile(r"(\^(?:\d|\{\d+\})) (?=\d+\^)")
_WHOLE_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|textnormal)\s*\{([^{}]*)\}\.?")
_GROUPED = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:,\d{3})+|(?: \d{3})+)(?![\d,])")
_BRACKET = re.compile(r"[(\[]|\\\{")
_PERCENT = re.compile(r"(?<=[\d}]) ?(?:\\text\{ *)?(?:%|\b(?:percent(?:age)?|pct)\b) *\}?", re.IGNORECASE)
_PLUS = re.compile(r"(?:^|(?<=[(\[,{=])) *\+(?= *(?:\d|\\infty))")
_CHOICE = re.compile(r"(?:\\text[a-z]*\s*\{)?\s*(?:\(([A-Za-z])\)|([A-Z])[.)])\s*\}?")


def normal_form(answer: str, *, grouped: bool = True) -> str:
    r"""Remove the parts of an answer that have no meaning: layout, `$`, spaces, a final period.

    Commas between groups of three digits are removed unless `grouped` is false or there are brackets: (12,102) is a
    point.
    """
    text = answer.strip().rstrip("\\")
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1]
    text = _formula(_DOUBLED.sub(r"\\", _ascii(text))).replace(r"\\", "\0")
    text = _joined(text)
    text = _BOLD.sub("", _COLOR.sub("", _DELIMITER.sub("", _LAYOUT.sub("", text))))
    text = _STARS.sub(r"\1", _SPACES.sub(" ", text)).replace("\0", r"\\").strip()
    text = _PRODUCT_OF_POWERS.sub(r"\1\\cdot ", _fractions(text))
    if whole := _WHOLE_TEXT.fullmatch(text):
        words = whole[1].strip().rstrip(".")
        if len(words) > 1 and words.replace(" ", "").isalpha():
            return rf"\text{{{words}}}"
        text = words
    text = _unbraced(text.rstrip(".").strip())
    text = _PLUS.sub("", text)
    if choice := _CHOICE.fullmatch(text):
        return choice[1] or choice[2]
    if grouped and not _BRACKET.search(text):
        text = _GROUPED.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)
    text = mark_units(_PERCENT.sub(r"\\%", text))
    # A space between two word characters separates them: 1 2 is not 12.
    return re.sub(r" (?=\W)|(?<=\W) ", "", text).replace(",", ", ")


def lists_by_blanks(answer: str) -> bool:
    """Return True if blanks show that the commas between numbers separate the items of a list: 100, 200."""
    return bool(re.search(r"\d, +\d", _SPACES.sub(" ", _joined(_ascii(answer)))))


def _formula(text: str) -> str:
    """Return the formula that a sentence ends with, as in `We find that $x < 3$.`, or else the text."""
    sentence = _SENTENCE.fullmatch(text)
    if sentence is None or QUALIFIER.search(sentence["words"]):
        return text
    return next(part for part in sentence.groups()[1:] if part)


def _joined(text: str) -> str:
    return _JOINED.sub(lambda number: number[1] + re.sub(r"\D", "", number[2]), text)


def _ascii(text: str) -> str:
    """Replace Unicode symbols by LaTeX."""
    if text.isascii():
        return text
    text = _VULGAR.sub(lambda found: r"\frac{%d}{%d}" % _FRACTIONS[found[0]], text)  # noqa: UP031 - braces
    text = _SCRIPTS.sub(_script, text)
    return text.translate(_TRANSLATION)


def _script(found: re.Match[str]) -> str:
    above, below = found[1], found[2]
    if above:
        return "^{" + "".join(_SUPERSCRIPTS[character] for character in above) + "}"
    return "_{" + "".join(_SUBSCRIPTS[character] for character in below) + "}"


def _fractions(text: str) -> str:
    r"""Write fractions and roots with braces, and mixed numbers as one fraction: `1\frac12` is `\frac{3}{2}`."""
    text = _FRACTION_COMMAND.sub(r"\\frac", text)
    text = _SHORT_FRACTION.sub(_braced, text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", _ROOT_OF_BRACKET.sub(r"\\sqrt{\1}", text))
    text = _SUBSCRIPT.sub(r"_{\1}", text)
    return _MIXED.sub(_improper, text)


def _braced(fraction: re.Match[str]) -> str:
    numerator = fraction[2] or f"{{{fraction[1]}}}"
    return rf"\frac{numerator}" + (f"{{{fraction[3]}}}" if fraction[3] else fraction[4])


def _improper(mixed: re.Match[str]) -> str:
    whole, numerator, denominator = (int(part) for part in (mixed[1], mixed[2] or mixed[4], mixed[3] or mixed[5]))
    if numerator >= denominator:
        return mixed[0]
    return rf"\frac{{{whole * denominator + numerator}}}{{{denominator}}}"


def _unbraced(text: str) -> str:
    """Remove braces around the whole: {1, 2} shows as 1, 2."""
    while text.startswith("{") and text.endswith("}") and not text.endswith(r"\}"):
        depth = 0
        for index, character in enumerate(text):
            depth += (character == "{") - (character == "}")
            if depth == 0 and index < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text

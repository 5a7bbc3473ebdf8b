r"""Removes what only decides how an answer looks: `$`, `**`, spaces, sizes, colors and bold type."""

from __future__ import annotations

import re

from reinforcepp_verl.rewards.words import KIND_OF_NUMBER, QUALIFIER

SPACES = re.compile(r"\\(?:q?quad|hspace\*?\{[^{}]*\}|[,;:! ])|\\\s|~|\s+")
_COLUMNS = re.compile(r"(?<=[\d}]) *\\q?quad *(?=-?(?:\d|\\frac)|[a-z] *=)")
# JSON may have doubled the backslashes; no line of a matrix starts with the letters of a command.
_DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dt]?frac|sqrt|left|right|text|mathrm|mathbf|pi|infty|cup|cdot|times|circ|pm|begin|end|boxed)\b)"
)
_COMMANDS = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|middle|[bB]igg?[lr]?|tiny|small|normalsize|large|Large|LARGE|huge"
    r"|Huge|bfseries|bf|rm|it|boldmath|centering|nonumber|qquad)(?![a-zA-Z])"
)
_COLOR = re.compile(
    r"\\(?:text|f?)color(?:box)?(?:\s*\[[^\]]*\])?(?:\s*\{[^{}]*\}){1,2}(?=\s*\{)|\\color\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}"
    r"|\\(?:tag|label)\*?\s*\{[^{}]*\}"
)
_BOLD = re.compile(
    r"\\(?:boldsymbol|mathbf|bold|bm|mathit|mathsf|mathtt|mathnormal|emph|underline|ensuremath|underbrace|overbrace"
    r"|f(?:rame)?box)(?![a-zA-Z])\s*(?:\{(\w+)\})?|(?<![\d.])\\overline(?=\{\d+\}$)"
)
_FORMULA = r"\$\$([^$]+)\$\$|\$([^$\n]+)\$|\\\(([^\n]+?)\\\)|\\\[(.+?)\\\]"
_SENTENCE = re.compile(rf"(?P<words>[A-Za-z][A-Za-z ,:]*)(?:{_FORMULA})\s*\.?", re.DOTALL)
_QUOTED = re.compile(r'\\?["“](.*?)\\?["”]|(`+|__|\*(?=[^*]))([^`]+)\2', re.DOTALL)
_LONE_DOLLAR = re.compile(r"(-?)\$(?= ?[\d.])([^$]*)")
_DELIMITER = re.compile(r"(?<!\\)\$|\\[()]|\\\[|\\\]")
_STARS = re.compile(r"(?<!\S)\*\*(.+)\*\*(?!\S)")
_BRACES = re.compile(r"\\([lr])brace(?![a-z]) ?")
_OPENING_ANGLE = re.compile(r"(?:\\left *<|(?:\\left *)?\\langle(?![a-z])) ?")
_CLOSING_ANGLE = re.compile(r"(?:\\right *>|(?:\\right *)?\\rangle(?![a-z]))")


def plain(text: str) -> str:
    """Remove layout from LaTeX. What is left of spaces separates words or numbers."""
    text = text.strip().rstrip("\\")
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1] or quoted[3]
    text = _LONE_DOLLAR.sub(r"\1\\$\2", text) if _LONE_DOLLAR.fullmatch(text) else text
    text = _formula(_DOUBLED.sub(r"\\", text)).replace(r"\\", "\0")
    text = _CLOSING_ANGLE.sub(")", _OPENING_ANGLE.sub("(", text))
    text = _BRACES.sub(lambda brace: r"\{" if brace[1] == "l" else r"\}", text)
    text = _BOLD.sub(
        lambda bold: bold[1] or "", _COLOR.sub("", _DELIMITER.sub("", _COMMANDS.sub("", _COLUMNS.sub(", ", text))))
    )
    return _STARS.sub(r"\1", SPACES.sub(" ", text)).replace("\0", r"\\").strip()


def _formula(text: str) -> str:
    """Return the formula that a sentence ends with, as in `We find that $x < 3$.`, or else the text."""
    sentence = _SENTENCE.fullmatch(text)
    if sentence is None or QUALIFIER.search(sentence["words"]) or KIND_OF_NUMBER.search(sentence["words"]):
        return text
    return next(part for part in sentence.groups()[1:] if part)


def unbraced(text: str) -> str:
    """Remove braces around the whole: {1, 2} shows as 1, 2."""
    while text.startswith("{") and text.endswith("}") and not text.endswith(r"\}"):
        depth = 0
        for index, character in enumerate(text):
            depth += (character == "{") - (character == "}")
            if depth == 0 and index < len(text) - 1:
                return text
        text = text[1:-1].strip()
    return text

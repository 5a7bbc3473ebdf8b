r"""Extracts the answer of a solution: from a box, after `####` or `Answer:`, or from Minerva's sentence."""

from __future__ import annotations

import re
from typing import NamedTuple

from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.rewards.symbols import as_latex
from reinforcepp_verl.rewards.units import KNOWN_UNIT
from reinforcepp_verl.rewards.words import EXCEPTION, QUALIFIER

# JSON may have doubled the backslash of a box. `\{` and the like are text, not braces.
_BRACE = re.compile(r"\\{1,2}(?:boxed|f(?:rame)?box)\s*\{|\\.|[{}]", re.DOTALL)
_BOX = re.compile(r"\\{1,2}(?:boxed|f(?:rame)?box)")
_BARE_BOX = re.compile(
    r"\\{1,2}(?:boxed|f(?:rame)?box)(?: +|(?=[\d\\]))([^\s{}$\\]+|\\[a-zA-Z]+(?:\{[^{}]*\}|\d(?!\d))+|\\[a-zA-Z]+\d+)"
)
_THINKING_STARTS, _THINKING_ENDS = "<think>", "</think>"
_ANSWER_LINE = re.compile(
    r"^[^\w\n]{0,8}(?:the )?(?:final )?answer[*_ ]*(?: is)? ?[:：][*_ ]*\n{0,2}(?P<answer>\S[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
# Around the answer in Minerva's format, which many evaluations prompt for.
_MINERVA = "final answer is", "I hope it is correct"
# Between boxes of one list: "and", "or" or a comma, with at most a few words before it or a name behind it.
_BETWEEN = re.compile(
    r"(?:(?:[^\W\d]+|\(\w\))[ ]){0,3}(?:,? ?(?:and|or)|[,;]|)"
    r"(?: ?\(?[a-zA-Z](?:_\{?\w+\}?)?(?:\([a-z]\))?\)? ?=)?",
    re.IGNORECASE,
)
# Leaves open which of the boxes is the answer.
_UNDECIDED = re.compile(
    r"(?:\W|\b(?:\d|[a-z])[.)]|\b(?:and|or|but|also|to|maybe|perhaps|possibly|else|alternatively|otherwise|either|as"
    r"|well|if|not|even|it|could|can|may|might|be)\b)*",
    re.IGNORECASE,
)
# Denies the box behind it.
_DENIED = re.compile(
    r"(?:\bnot|n't|\b(?:instead of|rather than))"
    r"(?:\W+(?:the|a|an|be|equal|to|actually|really|expected|correct|answer|is))*\W*$",
    re.IGNORECASE,
)
_MAY_DENY = re.compile(r"not|n't|instead|rather", re.IGNORECASE)  # only for speed
_WITHOUT_WORDS = re.compile(
    r"\\(?:text[a-z]*|mbox|mathrm)\s*\{([^{}]*)\}|\\(?:q?quad|[,;:! \[\]()])|\\\\|\$|&|~|\s+", re.DOTALL
)
_LONGEST_GAP = 80
# A sign of the box, not the bullet of a list.
_MINUS = re.compile(r"(?<!\w)(?<!\w )(?<![)}])(?<![)}] )-$")
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-+−])?\s?\$?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?:/\d+)?|(?<!\d)\.\d+)"
)
_HASHES = "####"
_SPECIAL_TOKEN = re.compile(r"<\|[^|<>]{1,40}\|>")
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?: \d{3})+(?!\w|[.,/]\d)")
# Makes a number part of an expression. A unit may follow a space, and `12\%`, `\(12\)` and `**12**` are 12.
_BEFORE = re.compile(r"(?:[\^_!/A-Za-zπ√{]|(?<!\\)\(|\\(?:sqrt|pi) ?|[\w)}]\*{1,2}|[\w)}] ?[-+])\Z")
_LOOK_BACK = 8
# All that stands around a number: its unit. In a sentence, the number alone counts.
_UNIT = re.compile(
    rf"[€£¥₹] | ?(?:(?:square|cubic|sq\.?|cu\.?) )?{KNOWN_UNIT.pattern}(?:\^\{{?\d\}}?)?(?:(?: ?/ ?| per )[a-z]+)?\.?"
    r"| ?(?:[€£¥₹]|\\?%|\\text\{permille\})\.?",
    re.IGNORECASE,
)
_REMARK = re.compile(r"(?:^| )\((?!mod|base)[^()]*\)\.?$")
_SHORT_ANSWER = re.compile(r"\**(?!.*\banswer\b)[A-Za-z'()-]+(?: [A-Za-z'-]+)?\**\.?", re.IGNORECASE)
_SAYS_MORE = re.compile(
    rf"(?i:{QUALIFIER.pattern}|{EXCEPTION.pattern}|\b(?:and|or|sqrt|pi|twice|root|up to|almost|nearly|base)\b)"
    r"|[<>±π√]|\\(?![%$,;! \[\]()]|text|mathrm|mbox)|(?<![\w'])(?!(?i:an?) [a-z]{2})[a-zA-Z](?!\w| ?=|')"
    r"|(?<!\^)(?<!\^\{)\d"
)
_AFTER = re.compile(
    r"[\^_!/({A-Za-zπ√]|:\d|\\(?![%$)\],;! ]|text|mathrm|mbox)"
    r"| ?(?:\*\*?|[-+−×·÷^:/]) ?[\d\\(.]|\*\*?[\w(]|[ \t]+[-+]?\.?\d"
)


class Answer(NamedTuple):
    """The answer found in a text, "" if there is none, and how it was marked."""

    text: str
    form: str
    """`boxed`, `hashes`, `line`, `number` or `none`."""

    @property
    def formatted(self) -> bool:
        """True if the text marks it as its answer."""
        return self.form in ("boxed", "hashes", "line")


def extract_answer(
    solution: str,
    last_number: bool = False,
    searched_chars: int = MathRewardOptions.searched_chars,
    skip_thinking: bool = MathRewardOptions.skip_thinking,
) -> Answer:
    r"""Find the answer in the last `searched_chars` characters, in linear time.

    The last `\boxed{` that is closed counts, together with those that it continues as a list (`\boxed{1} and
    \boxed{2}`); of nested boxes, the outermost. With `skip_thinking`, only what follows `</think>` is searched.
    """
    tail = (after_thinking(solution) if skip_thinking else solution)[-searched_chars:]
    if minerva := _between_minerva(tail):
        return Answer(minerva, "line")
    if (boxed := _last_boxes(tail)) is not None:
        return Answer(boxed, "boxed")
    if bare := list(_BARE_BOX.finditer(tail)):
        return Answer(bare[-1][1].rstrip(".,;"), "boxed")
    _, hashes, after = _SPECIAL_TOKEN.sub("", tail).rstrip().removesuffix(_HASHES).rpartition(_HASHES)
    if hashes and after.strip():
        return _after_hashes(_GROUPED.sub(_joined, as_latex(after.strip())))
    if lines := list(_ANSWER_LINE.finditer(tail)):
        return Answer(lines[-1]["answer"].strip().strip("*").strip(), "line")
    if last_number and (numbers := list(_NUMBER.finditer(tail))):
        return Answer(_plain(numbers[-1]), "number")
    return Answer("", "none")


def after_thinking(solution: str) -> str:
    """Return what follows the thinking: nothing if it does not end, all if there is none."""
    _, _, after = solution.rpartition(_THINKING_ENDS)
    return after.partition(_THINKING_STARTS)[0]


def _between_minerva(text: str) -> str:
    """Return X of the last `The final answer is X. I hope it is correct.`, "" if there is none."""
    before, ended, _ = text.rpartition(_MINERVA[1])
    _, started, answer = before.rpartition(_MINERVA[0])
    return answer.lstrip(": ").rstrip(" .") if ended and started and "\n" not in answer else ""


class _Box(NamedTuple):
    """Positions of the command, the content and the closing brace of a box."""

    command: int
    start: int
    end: int


def _last_boxes(text: str) -> str | None:
    """Return the content of the box that closes last, or of the boxes of one list, joined by commas."""
    boxes = _closed_boxes(text)
    items: list[str] = []
    following: _Box | None = None
    for index in range(len(boxes) - 1, -1, -1):
        box = boxes[index]
        if following is not None and box.command > following.command:
            continue
        before = text[boxes[index - 1].end + 1 if index else 0 : box.command][-_LONGEST_GAP:]
        if _MAY_DENY.search(before) and _DENIED.search(_words(before)):
            continue
        gap = text[box.end + 1 : following.command] if following is not None else ""
        if following is not None and not _continues(gap):
            break
        inner = _innermost(text, boxes, index)
        item = ("-" if _MINUS.search(before) else "") + text[inner.start : inner.end].strip()
        if following is not None and gap.strip(" $") == "=":
            items[-1] = f"{item} = {items[-1]}"
        else:
            items.append(item)
        following = box
    # A box that is repeated is one answer.
    return ", ".join(dict.fromkeys(reversed(items))) if items else None


def _closed_boxes(text: str) -> list[_Box]:
    open_braces: list[re.Match[str]] = []
    boxes: list[_Box] = []
    first = _BOX.search(text)
    for token in _BRACE.finditer(text, first.start()) if first else ():
        if token.group().endswith("{") and token.group() != r"\{":
            open_braces.append(token)
        elif token.group() == "}" and open_braces:
            opened = open_braces.pop()
            if opened.group() != "{":
                boxes.append(_Box(opened.start(), opened.end(), token.start()))
    return boxes


def _continues(gap: str) -> bool:
    """Return True if the text between two boxes makes them items of one list."""
    if len(gap) > _LONGEST_GAP:
        return False
    words = _words(gap)
    return bool(_BETWEEN.fullmatch(words) or _UNDECIDED.fullmatch(words))


def _words(gap: str) -> str:
    return " ".join(_WITHOUT_WORDS.sub(lambda found: f" {found[1] or ''} ", gap).split())


def _innermost(text: str, boxes: list[_Box], index: int) -> _Box:
    r"""Return the box inside boxes around nothing else: `\boxed{\boxed{5}}` is 5, `\boxed{\boxed{5} or 6}` stays."""
    outer = boxes[index]
    while index and (box := boxes[index - 1]).command >= outer.start:
        if (text[outer.start : box.command] + text[box.end + 1 : outer.end]).strip():
            break
        outer, index = box, index - 1
    return outer


def _in_expression(text: str, number: re.Match[str]) -> bool:
    """Return True if a number is part of a larger expression, as in 10^3, 2x or 1 1/2, and not the answer."""
    priced = "$" in number.group()
    start = number.end() - len(number.group().lstrip())
    before = text[max(start - _LOOK_BACK, 0) : start]
    return bool(_AFTER.match(text, number.end()) or (not priced and _BEFORE.search(before)))


def _after_hashes(text: str) -> Answer:
    """Return the first number, or its line if that says more than a number, or a first line of a word or two."""
    first, _, rest = text.partition("\n")
    if not _NUMBER.search(first) and (not rest.strip() or _SHORT_ANSWER.fullmatch(first)):
        return Answer(first.strip().strip("*"), "hashes")
    number = _NUMBER.search(text)
    if number is None:
        return Answer("", "none")
    before = text[: number.start()].rpartition("\n")[2]
    behind = _REMARK.sub("", text[number.end() :].partition("\n")[0])
    around = f"{before} {behind}" if before else behind
    if _SAYS_MORE.search(around) or _UNIT.fullmatch(around) or _in_expression(text, number):
        return Answer(f"{before}{number.group()}{behind}".strip().strip("*"), "hashes")
    return Answer(_plain(number), "hashes")


def _joined(number: re.Match[str]) -> str:
    return number.group().replace(" ", "")


def _plain(number: re.Match[str]) -> str:
    """Return a number without its currency sign and thousands separators."""
    sign = "-" if number["sign"] in ("-", "−") else ""
    return sign + number["digits"].replace(",", "")

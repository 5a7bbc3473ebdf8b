"""Words that say more about an answer than a unit does: sizes, exceptions, kinds of numbers, numbers in words."""

from __future__ import annotations

import re

SIZES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FRACTIONS = "half|halves|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|hundredth|thousandth|permille"
_EXCEPTIONS = "except|least|most|less|more|greater|fewer|not"
FUNCTIONS = "sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt"
"""Names that are not units after a number, as in 2 sin x."""

QUALIFIER = re.compile(
    rf"\b(?:{'|'.join(SIZES)}|k|{_FRACTIONS}|{_EXCEPTIONS}|odd|even|mod|modulo|squared|cubed|factorial|plus|minus"
    r"|negative|prime|theta|phi|alpha|beta|gamma|lambda)s?\b",
    re.IGNORECASE,
)
"""Changes the number that it stands beside: without it the answer is a different one."""
EXCEPTION = re.compile(
    rf"(?<!\\)\b(?:{_EXCEPTIONS}|but|non|without|other|between|over|under|above|below)\b", re.IGNORECASE
)
"""Changes the number that it stands before: `not 5` is not 5."""
KIND_OF_NUMBER = re.compile(r"\b(?:positive|multiples?|factors?|divisors?|all|every|any|no|twice)\b", re.IGNORECASE)
"""Like a qualifier, makes a sentence say more than the formula that it ends with: `all multiples of $3$`."""

_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_ONES += ["seventeen", "eighteen", "nineteen"]
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
NUMERALS = {
    **{word: number for number, word in enumerate(_ONES)},
    **{word: 10 * number for number, word in enumerate(_TENS, start=2)},
    **{
        f"{ten}{hyphen}{one}": 10 * tens + ones
        for tens, ten in enumerate(_TENS, start=2)
        for ones, one in enumerate(_ONES[1:10], start=1)
        for hyphen in "- "
    },
}
"""The numbers in words below one hundred."""
_HALF = {"half": r"\frac{1}{2}", "one half": r"\frac{1}{2}", "one-half": r"\frac{1}{2}"}
_OPENS, _CLOSES = r"(?:\\(?:text[a-z]*|mbox|mathrm) ?\{ *)?", r"(?: *\})?"
_WHOLE_NUMBER = re.compile(
    rf"{_OPENS}(?P<sign>(?:negative|minus)(?: ?\}} ?| ))?{_OPENS}"
    rf"(?:(?P<word>{'|'.join(sorted((*NUMERALS, *_HALF), key=len, reverse=True))})|(?P<digits>\d[\d.,]*)){_CLOSES}\.?",
    re.IGNORECASE,
)
_APPROXIMATELY = re.compile(
    r"^(?:\\text ?\{ *)?(?:about|approximately|roughly|approx\.?|around|exactly)(?: *\} *| (?![^{]*\}))(?=[-\d\\.])",
    re.IGNORECASE,
)


def in_digits(text: str) -> str:
    """Write an answer that is a number in words with digits, without "about": `negative five` is -5."""
    text = _APPROXIMATELY.sub("", text)
    if not (number := _WHOLE_NUMBER.fullmatch(text)):
        return text
    word = (number["word"] or "").lower()
    if not (word or number["sign"]):
        return text
    value = number["digits"] or _HALF.get(word) or str(NUMERALS[word])
    return f"-{value}" if number["sign"] else value

r"""Compares the units and other words of two answers: `5\text{ cm}` is not `5\text{ m}`, `5 million` is not 5.

math-verify drops units and words.
"""

from __future__ import annotations

import re

from reinforcepp_verl.rewards.words import FUNCTIONS, QUALIFIER

_SCRIPTS = "\u0400-\u04ff\u0590-\u06ff\u0900-\u0dff\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_CURRENCIES = {
    **{r"\$": "dollar", "€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee", "₽": "ruble", "₩": "won"},
    **{r"\euro": "euro", r"\pounds": "gbp", r"\yen": "yen", "¢": "cent", r"\cent": "cent"},
}
_CURRENCY_CODES = {"USD": "dollar", "EUR": "euro", "GBP": "gbp", "JPY": "yen", "INR": "rupee", "Rs": "rupee"}
_ALIASES = {
    **dict.fromkeys(("dollar", "usd", "us dollar", "buck"), "dollar"),
    **dict.fromkeys(("euro", "eur"), "euro"),
    **dict.fromkeys(("ounce", "oz"), "oz"),
    **dict.fromkeys(("yen", "jpy", "円"), "yen"),
    **dict.fromkeys(("degree", "deg"), "degree"),
    **dict.fromkeys(("m", "meter", "metre", "м"), "m"),
    **dict.fromkeys(("cm", "centimeter", "centimetre", "см"), "cm"),
    **dict.fromkeys(("mm", "millimeter", "millimetre", "мм"), "mm"),
    **dict.fromkeys(("km", "kilometer", "kilometre", "км"), "km"),
    **dict.fromkeys(("g", "gram", "gramme", "г"), "g"),
    **dict.fromkeys(("kg", "kilogram", "кг"), "kg"),
    **dict.fromkeys(("s", "sec", "second"), "s"),
    **dict.fromkeys(("min", "minute"), "min"),
    **dict.fromkeys(("h", "hr", "hour"), "h"),
    **dict.fromkeys(("l", "liter", "litre"), "l"),
    **dict.fromkeys(("ml", "milliliter", "millilitre"), "ml"),
    **dict.fromkeys(("in", "inch", "inche"), "in"),
    **dict.fromkeys(("ft", "foot", "feet"), "ft"),
    **dict.fromkeys(("yd", "yard"), "yd"),
    **dict.fromkeys(("mi", "mile"), "mi"),
    **dict.fromkeys(("mph",), "mi/h"),
    **dict.fromkeys(("kmh", "kph"), "km/h"),
    **dict.fromkeys(("hertz", "hz"), "hz"),
    **dict.fromkeys(("pascal", "pa"), "pa"),
    **dict.fromkeys(("ton", "tonne"), "t"),
    **dict.fromkeys(("joule", "j"), "j"),
    **dict.fromkeys(("newton", "n"), "n"),
    **dict.fromkeys(("watt", "w"), "w"),
    **dict.fromkeys(("volt", "v"), "v"),
    **dict.fromkeys(("rupee", "inr", "rs"), "rupee"),
    **dict.fromkeys(("ohm", "omega"), "ohm"),
    **dict.fromkeys(("radian", "rad"), "rad"),
}
KNOWN_UNIT = re.compile(rf"(?:{'|'.join(sorted(_ALIASES, key=len, reverse=True))})s?", re.IGNORECASE)
# Known without a space before them, where two letters could otherwise be a product; and with one.
_ATTACHED = "cm|mm|km|kg|CM|MM|KM|KG|mg|ml|mL|nm|ft|mi|mph|kmh|kph|min|hr|sec|lb|oz|Hz|kHz|MHz|kW|kJ|Pa|kPa|eV|mol|rad"
_APART = rf"{_ATTACHED}|m|s|g|h|L|l|N|J|W|V|K|in|yd|deg|lbs|[mMG]W|[mk]V|[mk]A|[mM]J|MPa|[kMG]eV|[mG]Hz|kWh|dB"
_OHM = r"\Omega"
_ALSO_WITH_OTHERS = r"sq|cu|per|of|a|an|the|\\Omega"

_PI, _ROOT, _EXPONENT_OF_VALUE = r"\\pi(?![a-zA-Z])", r"\\sqrt\{\d+\}", r"\^ ?(?:\d|\{-?\d+\})"
_VALUE = (
    rf"(?:\d+ ?[/:] ?\d+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{{1,3}}|{_EXPONENT_OF_VALUE})?"
    rf"(?: ?\\(?:times|cdot) ?10{_EXPONENT_OF_VALUE})?(?: ?{_ROOT})?(?: ?{_PI})?|{_ROOT}|{_PI}"
    rf"|\\frac\{{\d+\}}\{{\d+\}}(?: ?{_PI})?)"
)
_START = r"(?:(?<=^)|(?<=[,;(=])|(?<=[,;(=] ))"
_END = r"(?= *(?:$|[,;)}\]]|\\}|(?:\\text ?\{ *)?(?:and|or)(?![a-z])))"
_POWER = r"(?:\^ *\{?-?\d\}?)?"
_CURRENCY = "|".join(re.escape(symbol) for symbol in _CURRENCIES)
_CURRENCY_BEFORE = re.compile(
    rf"{_START}(-?) ?(?:(?:US)?(?:\\text ?\{{ ?)?({_CURRENCY})(?: ?\}})?|({'|'.join(_CURRENCY_CODES)})\.?(?= )) ?"
    r"(-?[\d.,]*\d\.?|\\frac\{\d+\}\{\d+\})"
)
_CURRENCY_AFTER = re.compile(rf"(?<=[\d}}]) ?({_CURRENCY}){_END}")
_DEGREES = re.compile(
    rf"{_START}(-? ?{_VALUE}) ?(?:\^ ?\{{?\\circ *\}}?|\\degree)"
    rf" ?(?:\\(?:text|mathrm) ?\{{ *)?([CF](?![a-zA-Z]))?\}}?{_END}"
)
_BARE = re.compile(rf"{_START}(-? ?{_VALUE})(?: ({_APART})|({_ATTACHED}))(?![a-zA-Z/])( ?{_POWER}){_END}")
_NO_UNIT = rf"(?!(?:percent(?:age)?|pct|{FUNCTIONS}|mod|and|plus|minus|times|over|cap|choose)\b)"
# The alternatives exclude each other: if a word could match both, the time would double with each of them.
_SHORT_WORD = rf"(?:{_APART}|{_ALSO_WITH_OTHERS})(?![A-Za-z])"
_UNIT_WORD = rf"{_NO_UNIT}(?:{_SHORT_WORD}|(?!{_SHORT_WORD})[A-Za-z]{{3,}}(?![A-Za-z]))(?:\^ ?\{{?-?\d\}}?)?"
_SEVERAL_WORDS = re.compile(
    rf"{_START}(-? ?{_VALUE})(?: (?!(?:of|per|an?|the)\b)|(?=(?:{_ATTACHED})/))"
    rf"({_UNIT_WORD}(?:(?: ?[/*] ?| ?\\cdot ?|\.? ){_UNIT_WORD})*)\.?{_END}"
)
_UNIT_FRACTION = re.compile(
    r"\\frac ?\{ ?\\(?:text|mathrm) ?\{([^{}]*)\} ?\} ?\{ ?\\(?:text|mathrm) ?\{([^{}]*)\} ?(\^ ?\{?\d\}?)? ?\}"
)
_OTHER_SCRIPT = re.compile(rf"(?<=[\d}}]) ?([{_SCRIPTS}]+)")

_TEXT = re.compile(r"\\(?:text[a-z]*|mbox|mathrm)\s*\{([^{}]*)\}|\\[pb]?(mod)(?![a-z])")
_LETTER = re.compile(r"[^\W\d_]")
_CONSTANTS = (r"\mathrm{e}", r"\mathrm{i}", r"\mathrm{d}")
_MARK = "\x01"
_FUNCTION = rf"(?!(?:{FUNCTIONS}|pi|and|or|in|cup)\b)"
# Two letters without a space before them are as likely a product.
_BARE_WORD = rf"(?<=\d) {_FUNCTION}(?=[A-Za-z]{{2}})|(?<=[)}}]){_FUNCTION}(?=[a-z]{{3}})"
_TAIL = re.compile(rf"\D*\d[^{_MARK}]*?(?:{_MARK}|{_BARE_WORD})")
# `6 and 8` are two answers, `12 dollars and 50 cents` is one.
_AND_ANOTHER = rf"{_MARK}?\b(?:and|or)\b *(?=[-+\d\\({{\[.]|[a-zA-Z] *=)"
_PIECES = re.compile(rf"[,;]|(?<![A-Za-z]{{2}})(?<![A-Za-z]{{2}} ) ?{_AND_ANOTHER}")
_TAIL_OF_LETTERS = re.compile(rf"[^\d{_MARK}]*{_MARK}(?=(?:\D|\^\{{?-?\d\}}?)*$)")
_EXPONENT = re.compile(r"\^\{?-?\d\}?")
_PLURAL = re.compile(r"(?<=[a-z]{2})(?:es|s|e)\b")
_MEGA = re.compile(r"\bM(?=(?:W|J|V|Hz|Pa|N|eV|B|b)\b)")
_FILLER = re.compile(r"\b(?:is|are|the)\b")
_POUNDS = re.compile(r"gbp|lb(?![a-z])")
"""Both are called pounds."""
_AREA = re.compile(r"\b(square|cubic|(?:sq|cu)\b)\.? *([a-z]+)")
_SINGULAR_ALIASES = {_PLURAL.sub("", name): unit for name, unit in _ALIASES.items()}
_UNIT_AT_END = re.compile(rf"\\(?:text[a-z]*|mbox|mathrm)\s*\{{[^{{}}]*\}} ?{_POWER}$")
_UNITS = re.compile(rf"(?<=[\w)}}]) ?(?!\\mathrm\{{[eid]\}})\\(?:text[a-z]*|mbox|mathrm)\s*\{{[^{{}}]*\}} ?{_POWER}")
_LETTER_UNIT = re.compile(rf"^(-?{_VALUE})([msghLlNJWVK])$")


def mark_units(text: str) -> str:
    r"""Write units of plain numbers as text behind them: `10 cm^2`, `€12` and `45^\circ` become `12\text{euro}` etc."""
    text = _CURRENCY_BEFORE.sub(_currency_behind, _UNIT_FRACTION.sub(_unit_ratio, text))
    text = _CURRENCY_AFTER.sub(lambda found: rf"\text{{{_CURRENCIES[found[1]]}}}", text)
    text = _DEGREES.sub(lambda found: rf"{found[1]}\text{{degree{' ' + found[2] if found[2] else ''}}}", text)
    text = _BARE.sub(lambda found: rf"{found[1]}\text{{{found[2] or found[3]}}}{found[4].strip()}", text)
    text = _SEVERAL_WORDS.sub(lambda found: rf"{found[1]}\text{{{found[2].replace(_OHM, 'ohm')}}}", text)
    return _OTHER_SCRIPT.sub(r"\\text{\1}", text)


def _currency_behind(found: re.Match[str]) -> str:
    currency = _CURRENCIES[found[2]] if found[2] else _CURRENCY_CODES[found[3]]
    return rf"{found[1]}{found[4]}\text{{{currency}}}"


def _unit_ratio(found: re.Match[str]) -> str:
    return rf"\text{{{found[1]}/{found[2]}{found[3] or ''}}}"


def with_marked_letter(text: str, other: str) -> str:
    r"""Mark the letter of `5m` as a unit if the other answer has one: otherwise it is as likely a product."""
    return _LETTER_UNIT.sub(r"\1\\text{\2}", text) if _UNIT_AT_END.search(other) else text


def without_unit(text: str) -> str:
    """Remove the words at the end of an answer, and their exponent."""
    return _UNIT_AT_END.sub("", text).strip()


def without_units(text: str) -> str:
    """Remove all words behind numbers and letters, which `words_differ` has compared."""
    return _UNITS.sub("", text)


def singular(words: str) -> str:
    """Remove plural endings, from a singular also its final e: compare only what went through this."""
    return _PLURAL.sub("", words)


def words_differ(truth: str, answer: str) -> bool:
    """Return True if the words after the numbers make two normal forms different.

    Words on both sides must be equal up to case, periods, the plural and the abbreviations of units. Words on only one
    side are treated as a unit that the other side omits, unless they scale or qualify the number or lead to another.
    """
    expected, given = _tails(truth, answer), _tails(answer, truth)
    if expected and given:
        first, second = ({_essence(tail) for tail in tails} for tails in (expected, given))
        if any("pound" in tail for tail in first | second):
            first, second = ({_POUNDS.sub("pound", tail) for tail in tails} for tails in (first, second))
        return first != second
    if any(tails and "%" in other for tails, other in ((expected, answer), (given, truth))):
        return True
    return any(QUALIFIER.search(tail) or re.search(r"\d", _EXPONENT.sub("", tail)) for tail in expected + given)


def _tails(text: str, other: str) -> list[str]:
    """Return the text from the first word after a number on, for each part of a list of answers."""
    if r"\circ" in other:  # 60^\circ\text{N} is in degrees, too
        text = text.replace(r"\text{degree}", "")
    marked = _TEXT.sub(_unwrapped, text)
    found = ((_TAIL.match(piece) or _TAIL_OF_LETTERS.match(piece), piece) for piece in _PIECES.split(marked))
    return [piece[match.end() :].replace(_MARK, " ") for match, piece in found if match]


def _unwrapped(command: re.Match[str]) -> str:
    """Unwrap words from their LaTeX command, with a mark before them."""
    words = command[1] if command[2] is None else command[2]
    return words if command[0] in _CONSTANTS or not _LETTER.search(words) else f"{_MARK}{words} "


def _essence(tail: str) -> str:
    """Return a tail without plural endings, case and punctuation, and with abbreviated units."""
    lowered = _FILLER.sub("", _MEGA.sub("mega", tail).lower())
    powers = _AREA.sub(lambda area: f"{area[2]}^{2 if area[1].startswith('sq') else 3}", lowered)
    words = re.sub(r"\bper\b", "/", singular(powers))
    abbreviated = re.sub(r"[^\W\d_]+", lambda word: _SINGULAR_ALIASES.get(word[0], word[0]), words)
    return re.sub(r"[^\w/-]", "", abbreviated)

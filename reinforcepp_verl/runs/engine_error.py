"""Finds the error that ended a vLLM engine: the log has it once, thousands of lines before its consequences."""

from __future__ import annotations

import re
from pathlib import Path

PID = re.compile(r"pid=(\d+)")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# vLLM marks every line of a message with the place that logs it, here before the traceback.
DEATH = re.compile(
    r"(?P<place>\[\w+\.py:\d+\]) (?:EngineCore (?:encountered a fatal error|failed to start)"
    r"|WorkerProc (?:failed|hit an exception))"
)
CHAINED = re.compile(r"^(?:The above exception was the direct cause|During handling of the above exception)")
ERROR_LINE = re.compile(r"^(?:\([^)]*\)\s*)*(?P<error>[A-Za-z_.]*(?:Error|Exception)\b.*)$")
INVALID = re.compile(r"\d+ validation errors? for \w+$")
REASON_LINES = 2
LONGEST_TRACEBACK = 2000


def engine_error(log: Path) -> str | None:
    """Return the root error of the first engine that died with a traceback, None if there is none."""
    if not log.is_file():
        return None
    place, process, lines, others = "", [], [], 0
    with log.open(encoding="utf-8", errors="replace") as stream:
        for line in stream:
            if not place:
                if found := DEATH.search(line):
                    place, process = found["place"], PID.findall(line[: found.start()])
                continue
            before, here, text = ANSI.sub("", line).partition(place)
            if here and PID.findall(before) == process:
                lines.append(text.strip())
            elif (others := others + 1) > LONGEST_TRACEBACK:
                break
    return root_error(lines)


def root_error(lines: list[str], other_than: str | None = None) -> str | None:
    """Return the last error of a log, or the first one of the chain of exceptions that ends with it."""
    chain: list[str] = []
    continues = False
    for number, line in enumerate(lines):
        if CHAINED.search(line):
            continues = True
        elif (match := ERROR_LINE.match(line.strip())) and not (other_than and other_than in match["error"]):
            error = _with_reason(match["error"], lines[number + 1 : number + 1 + REASON_LINES])
            chain = [*chain, error] if continues else [error]
            continues = False
    return chain[0] if chain else None


def _with_reason(error: str, below: list[str]) -> str:
    """Append what is wrong to an error of pydantic, which says it on the lines below."""
    if not INVALID.search(error):
        return error
    return f"{error}: {' '.join(' '.join(below).split()).partition(' [type=')[0]}"

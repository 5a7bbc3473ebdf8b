"""Say in a line or two why a run failed, from the worker's note or else from its log."""

from __future__ import annotations

import re
from pathlib import Path

from reinforcepp_verl.runs.folder import RunFolder

LINES_SHOWN = 2
LINE_LENGTH = 400
TAIL_BYTES = 400_000
ANSI = re.compile(r"\x1b\[[0-9;]*m")
WATCH_VERDICT = re.compile(r"vLLM engine \S+ has not been healthy[^;\n]*")
ENGINE_DEATH = re.compile(r"EngineDeadError|engine core exited unexpectedly")
SECOND_HAND = re.compile(r"ActorDied|ActorUnavailable|RayActorError|StalledRollout|FailedRollout|EngineDead")
ERROR_LINE = re.compile(r"^(?:\([^)]*\)\s*)?(?P<error>[A-Za-z_.]*(?:Error|Exception)\b.*)$")


def explain(folder: RunFolder, exit_code: int) -> str:
    """Return the cause of a failed run, at most `LINES_SHOWN` lines."""
    note = folder.failure.read_text(encoding="utf-8").strip() if folder.failure.exists() else ""
    log = _tail(folder.log)
    if verdict := WATCH_VERDICT.search(log) or (_second_hand(note) and ENGINE_DEATH.search(log)):
        return f"the vLLM engine died during the run ({verdict[0]})"
    if "FailedRolloutError" in note:
        note += f"\n{_last_error(log, other_than='FailedRolloutError') or ''}"
    if not note:
        note = _last_error(log) or f"the training process ended with exit code {exit_code} and no Python error"
    lines = [line.strip()[:LINE_LENGTH] for line in note.splitlines() if line.strip()]
    return "\n".join(lines[:LINES_SHOWN])


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - TAIL_BYTES))
        return ANSI.sub("", stream.read().decode("utf-8", errors="replace"))


def _second_hand(note: str) -> bool:
    """Whether the note tells only that somebody else failed: engines also die because the run ends."""
    return not note or SECOND_HAND.search(note) is not None


def _last_error(log: str, other_than: str | None = None) -> str | None:
    errors = [match["error"] for line in log.splitlines() if (match := ERROR_LINE.match(line.strip()))]
    told = [error for error in errors if other_than is None or other_than not in error]
    return told[-1] if told else None

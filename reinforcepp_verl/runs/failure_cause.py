"""Explains in one or two lines why a run failed and in which process, from watchdog, training process or log."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from reinforcepp_verl.common.run_folder import Attempt
from reinforcepp_verl.guards import END_OF_RUN
from reinforcepp_verl.guards.process_names import ENGINE, TRAINER, role_of
from reinforcepp_verl.runs.engine_error import ANSI, ERROR_LINE, engine_error, root_error

LINES_SHOWN = 2
LINE_LENGTH = 400
TAIL_BYTES = 400_000
FULL_BELOW_BYTES = 1 << 20
WATCHDOG_MESSAGE = re.compile(re.escape(END_OF_RUN).replace("%s", "(?P<problem>.+)"))
PID = re.compile(r"\bpid[ :=]+(\d+)")
# Ray's report of a dead actor: one key per line.
DEAD_ACTOR = re.compile(
    r"class_name: (?P<kind>.*)\n\s*actor_id: .*\n\s*pid: (?P<pid>\d+)(?:\n\s*name: (?P<name>.*))?"
    r"(?:\n\s*namespace: .*)?(?:\n\s*ip: (?P<address>\S+))?"
)
RAY_PREFIX = re.compile(r"^\([^)\n]*pid=\d+[^)\n]*\) ", re.MULTILINE)
ENGINE_START = re.compile(r"Engine core initialization failed")
ENGINE_DEATH = re.compile(r"EngineDeadError|engine core exited unexpectedly")
SERVER_OF_DEAD_ENGINE = re.compile(
    rf"^\(vLLMHttpServer pid=(?P<pid>\d+)(?:, ip=(?P<address>[^)\n]*))?\) .*(?:{ENGINE_DEATH.pattern})", re.MULTILINE
)
SECONDARY_ERROR = re.compile(r"ActorDied|ActorUnavailable|RayActorError|StalledRollout|FailedRollout|EngineDead")


def failure_cause(attempt: Attempt, exit_code: int) -> str:
    """Return the cause in at most `LINES_SHOWN` lines: what happened, and the last output of the failed process."""
    note = attempt.failure.read_text(encoding="utf-8", errors="replace").strip() if attempt.failure.exists() else ""
    log = _tail(attempt.log)
    if shutil.disk_usage(attempt.path).free < FULL_BELOW_BYTES:
        # In this case neither note nor log may have been written.
        return _cut(
            f"no space is left on the disk of {attempt.path}: make room, then resume\n{note or _last_error(log) or ''}"
        )
    if failed := _failed_process(note, log):
        if failed.startswith(ENGINE) and (error := _labelled(engine_error(attempt.log))):
            return _cut(f"{failed}\n{error}")
        return _with_last_words(failed, log)
    if ENGINE_START.search(note) and (error := _labelled(engine_error(attempt.log))):
        return _cut(f"the vLLM engine failed to start\n{error}")
    if _is_secondary(note) and (death := ENGINE_DEATH.search(log)):
        return _cut(f"the vLLM engine died during the run ({death[0]})\n{_labelled(engine_error(attempt.log))}")
    if "FailedRolloutError" in note:
        # The error of a group says why; that the groups failed only follows from it.
        reason = root_error(RAY_PREFIX.sub("", log).splitlines(), other_than="FailedRolloutError") or ""
        note = f"{reason}\n{note}"
    if not note:
        note = _last_error(log) or f"the training process ended with exit code {exit_code} and no Python error"
    return _cut(note)


def _failed_process(note: str, log: str) -> str | None:
    """Return which process of the run failed and how; None if the cause is another one."""
    if found := WATCHDOG_MESSAGE.search(log):
        return found["problem"]
    if not _is_secondary(note):
        return None
    if dead := _dead_actor(f"{note}\n{RAY_PREFIX.sub('', log)}"):
        return dead
    if server := SERVER_OF_DEAD_ENGINE.search(log):
        where = f" on {server['address']}" if server["address"] else ""
        return f"{ENGINE} (server pid {server['pid']}{where}) died during the run"
    return note if "StalledRolloutError" in note else None


def last_words(log: str, pid: str) -> str | None:
    """Return the last nonempty line printed by the process, in Ray's format `(Class pid=123, ip=...) line`."""
    printed = re.findall(rf"^\([^)\n]*pid={pid}(?:,[^)\n]*)?\) *(\S.*)$", log, re.MULTILINE)
    return printed[-1] if printed else None


def _with_last_words(what: str, log: str) -> str:
    """Append the last line printed by the first process named in `what`."""
    pid = PID.search(what)
    if pid is None:
        return _cut(what)
    words = last_words(log, pid[1])
    return _cut(f"{what}\nits log last said: {words}" if words else f"{what}\nits log says nothing")


def _dead_actor(text: str) -> str | None:
    """Return the first actor of verl that Ray reports dead; the trainer only if there is no other."""
    reports = [(role_of(found["name"] or found["kind"]), found) for found in DEAD_ACTOR.finditer(text)]
    dead = sorted(((role == TRAINER, role, found) for role, found in reports if role), key=lambda report: report[0])
    if not dead:
        return None
    _, role, found = dead[0]
    where = f" on {found['address']}" if found["address"] else ""
    return " ".join(filter(None, [role, found["name"], f"(pid {found['pid']}{where}) died during the run"]))


def _labelled(error: str | None) -> str:
    return f"its error: {error}" if error else ""


def _cut(text: str) -> str:
    lines = [line.strip()[:LINE_LENGTH] for line in text.splitlines() if line.strip()]
    return "\n".join(lines[:LINES_SHOWN])


def _tail(log: Path) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - TAIL_BYTES))
        return ANSI.sub("", stream.read().decode("utf-8", errors="replace"))


def _is_secondary(note: str) -> bool:
    """Return True if the note only reports the failure of another process; engines also die because the run ends."""
    return not note or SECONDARY_ERROR.search(note) is not None


def _last_error(log: str) -> str | None:
    errors = [match["error"] for line in log.splitlines() if (match := ERROR_LINE.match(line.strip()))]
    return errors[-1] if errors else None

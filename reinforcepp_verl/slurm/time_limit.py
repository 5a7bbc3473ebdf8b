"""The time limit of a job, as `--time` gives it."""

from __future__ import annotations

import re

_LIMIT = re.compile(r"(?:\d+-)?\d+:\d\d?:\d\d?|\d+-\d+(?::\d\d?)?")


def check_time(limit: str) -> None:
    """Check `--time`: Slurm reads 12 as 12 minutes, and knows no units.

    Raises:
        ValueError: it is not in Slurm's format, or hours may be meant where Slurm reads minutes
    """
    form = "write --time HOURS:MINUTES:SECONDS or DAYS-HOURS:MINUTES:SECONDS"
    if limit.upper() in ("UNLIMITED", "INFINITE") or _LIMIT.fullmatch(limit):
        return
    if minutes := re.fullmatch(r"(\d+)(?::(\d\d))?", limit):
        meant = f"{minutes[1]}:{minutes[2] or '00'}:00"
        raise ValueError(
            f"--time {limit}: Slurm reads this as {minutes[1]} minutes; write --time 0:{int(minutes[1]):02}:00 if that "
            f"is meant, or --time {meant} for hours"
        )
    if hours := re.fullmatch(r"(\d+) ?(?:h|hr|hrs|hours?)", limit, re.IGNORECASE):
        raise ValueError(f"--time {limit}: Slurm has no units; write --time {hours[1]}:00:00")
    if days := re.fullmatch(r"(\d+) ?(?:d|days?)", limit, re.IGNORECASE):
        raise ValueError(f"--time {limit}: Slurm has no units; write --time {days[1]}-00:00:00")
    raise ValueError(f"--time {limit}: Slurm cannot read it; {form}")

"""The records of a run, merged from verl's file loggers, one per attempt: one flat JSON object per step."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from reinforcepp_verl.common.json_text import lines_from_the_end, parse_object
from reinforcepp_verl.common.run_folder import Attempt, RunFolder
from reinforcepp_verl.config import config_file, keys
from reinforcepp_verl.report.validation_metric import MEAN_OF_SOURCES, VALIDATION

Record = dict[str, Any]
Parser = Callable[[bytes], Record]

_BY_SOURCE = re.compile(rf"{VALIDATION}.+/((?:acc|reward)/mean@\d+)")
_CHECKPOINT = re.compile(r"global_step_(\d+)")


def mean_of_sources(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the unweighted mean of each validation metric over the data sources; {} for a single source."""
    by_kind: dict[str, list[float]] = {}
    for name, value in metrics.items():
        # orjson writes NaN as null. Only the start is compared at first, which is much faster.
        if name.startswith(VALIDATION) and value is not None and (found := _BY_SOURCE.fullmatch(name)):
            by_kind.setdefault(found[1], []).append(value)
    return {
        f"{VALIDATION}{MEAN_OF_SOURCES}/{kind}": fmean(values) for kind, values in by_kind.items() if len(values) > 1
    }


def flatten(line: bytes) -> Record:
    """Return one line of verl's file logger as `{"step": int, "<verl metric>": number, ...}`.

    With several validation data sources, their mean is added as `val-core/mean_of_sources/...`.

    Raises:
        ValueError: it is not such a line
    """
    raw = parse_object(line)
    step, data = raw.get("step"), raw.get("data")
    if not _is_step(step) or not isinstance(data, dict):
        raise ValueError('no "step" and "data" of verl\'s file logger')
    return {"step": step, **data, **mean_of_sources(data)}


def metrics_record(line: bytes) -> Record:
    """Return one line of metrics.jsonl.

    Raises:
        ValueError: it is not such a line
    """
    record = parse_object(line)
    if not _is_step(record.get("step")):
        raise ValueError('no integer "step"')
    return record


def recorded(
    run: RunFolder, start: int | None = None, wanted: Callable[[str], bool] | None = None
) -> dict[int, Record]:
    """Return the records of all attempts of a run, by step, up to the step that a new attempt starts from.

    `wanted` selects metrics by name; None: all of them.

    An attempt replaces all records after its own start. The validation at its start belongs to the step it starts from.
    Lines that were cut off or are damaged are left out: each file has what the other one lost.
    """
    wanted = functools.cache(wanted) if wanted is not None else None
    records = _if_nothing_is_lost(run, wanted)
    if records is None:
        records = _merged(run, wanted)
    return records if start is None else _until(start, records)


def _if_nothing_is_lost(run: RunFolder, wanted: Callable[[str], bool] | None) -> dict[int, Record] | None:
    """Return the records of metrics.jsonl if it has all that the attempts have, which is the usual case."""
    try:
        records = {record["step"]: record for record in _read(run.metrics, metrics_record, wanted, skip_damaged=False)}
    except ValueError:
        return None
    if not records or max(records) - min(records) != len(records) - 1:
        return None
    # An attempt rewrites the file before it trains, so only what the last one that trained wrote can be missing.
    newest = (record for attempt in reversed(run.attempts()) for record in _from_the_end(attempt.tracker, flatten))
    return records if all(_has(records, record, wanted) for record in islice(newest, 1)) else None


def _has(records: Mapping[int, Record], record: Record, wanted: Callable[[str], bool] | None) -> bool:
    names = (name for name in record if wanted is None or name == "step" or wanted(name))
    return set(names) <= records.get(record["step"], {}).keys()


def _merged(run: RunFolder, wanted: Callable[[str], bool] | None) -> dict[int, Record]:
    """Merge the records of all attempts and of metrics.jsonl."""
    records: dict[int, Record] = {}
    for attempt in run.attempts():
        of_attempt = list(_read(attempt.tracker, flatten, wanted))
        if (begin := _start_of(attempt, of_attempt)) is not None:
            records = _until(begin, records)
        for record in of_attempt:
            records.setdefault(record["step"], {}).update(record)
    # Attempt folders may have been deleted to save space.
    for record in _read(run.metrics, metrics_record, wanted):
        records[record["step"]] = record | records.get(record["step"], {})
    return records


def last_record(run: RunFolder, metric: str) -> Record | None:
    """Return the last record with `metric`, without reading all of a long file; None if there is none."""
    files: list[tuple[Path, Parser]] = [(run.metrics, metrics_record)]
    files += [(attempt.tracker, flatten) for attempt in reversed(run.attempts())]
    found = (record for file, parse in files for record in _from_the_end(file, parse) if record.get(metric) is not None)
    return next(found, None)


def last_step(run: RunFolder) -> int:
    """Return the last step that verl's file logger has of the newest attempt, -1 if it has none."""
    newest = run.attempts()[-1:]
    return next((record["step"] for attempt in newest for record in _from_the_end(attempt.tracker, flatten)), -1)


def start_step(config: Any) -> int:
    """Return the step of the checkpoint that a configuration starts from, 0 without one."""
    trainer = config.trainer
    return _step_of(trainer.resume_from_path) if trainer.resume_mode == "resume_path" else 0


def _step_of(checkpoint: object) -> int:
    found = _CHECKPOINT.fullmatch(Path(str(checkpoint)).name)
    if found is None:
        raise ValueError(f"{keys.RESUME_FROM_PATH} is {checkpoint}: set it to a folder RUN/checkpoints/global_step_N")
    return int(found[1])


def _start_of(attempt: Attempt, records: list[Record]) -> int | None:
    """Return the step that an attempt started from; None if neither its configuration nor its records tell it."""
    try:
        mode = config_file.value(attempt.config, keys.RESUME_MODE)
        if mode is not None:
            return _step_of(config_file.value(attempt.config, keys.RESUME_FROM_PATH)) if mode == "resume_path" else 0
    except (ValueError, FileNotFoundError):
        pass
    if not records:
        return None
    first = records[0]
    only_validation = all(name == "step" or name.startswith("val-") for name in first)
    return first["step"] if only_validation else first["step"] - 1


def _until(step: int, records: dict[int, Record]) -> dict[int, Record]:
    return {number: record for number, record in records.items() if number <= step}


def _read(
    file: Path, parse: Parser, wanted: Callable[[str], bool] | None, *, skip_damaged: bool = True
) -> Iterator[Record]:
    """Yield the records of a file; a damaged one is left out, or is a ValueError."""
    if not file.is_file():
        return
    with file.open("rb") as lines:
        for record in whole_records(lines, parse) if skip_damaged else map(parse, lines):
            if wanted is not None:
                record = {name: value for name, value in record.items() if name == "step" or wanted(name)}
            yield record


def _from_the_end(file: Path, parse: Parser) -> Iterator[Record]:
    return whole_records(lines_from_the_end(file), parse) if file.is_file() else iter(())


def whole_records(lines: Iterable[bytes], parse: Parser) -> Iterator[Record]:
    """Yield the records of the lines that can be parsed."""
    for line in lines:
        try:
            yield parse(line)
        except ValueError:
            # Cut off by a kill or a full disk, or damaged; the step counts as not recorded.
            continue


def _is_step(step: object) -> bool:
    return isinstance(step, int) and not isinstance(step, bool)

"""The option `--json FILE` of commands."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from reinforcepp_verl.common.run_folder import refuse_run_file


def check_json(file: Path) -> None:
    """Create the file's folder, and refuse a file that cannot be written before any answer is generated."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--json {file}: {error.strerror}; choose another file") from error
    refuse_run_file(file)
    if file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ValueError(f"--json {file}: cannot be written; choose another file")


def write_json(file: Path, document: dict[str, Any]) -> None:
    """Write a document as JSON, replacing the file as a whole."""
    from reinforcepp_verl.common import durable

    content = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    try:
        if file.exists() and not file.is_file():  # such as /dev/stdout
            file.write_bytes(content)
        else:
            durable.write(file.resolve(), content)
    except OSError as error:
        raise ValueError(f"--json {file}: {error.strerror}; choose another file") from error

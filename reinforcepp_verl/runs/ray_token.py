"""A token for the Ray that a run starts itself: without one, every user of the machine can run code through its ports.

Ray reads the file in every process that connects. In a Slurm job, the job's script makes one for the Ray of all nodes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@contextmanager
def written(file: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Write a token that only this user can read; yield `environment` with it. A mode that the user set is kept."""
    if MODE in environment:
        yield environment
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32))
        # A token in the environment would take precedence.
        inherited = {name: value for name, value in environment.items() if name != TOKEN}
        yield {**inherited, MODE: "token", TOKEN_PATH: str(file.resolve())}
    finally:
        file.unlink(missing_ok=True)

"""Imports a reward function and prints what happened; run as a script: PROBE PATH NAME ARGUMENT...

Needs only Python itself.
"""

import os
import sys

if __name__ == "__main__":
    # Not this folder, whose modules are named like some of Python's.
    sys.path[0] = os.getcwd()

import importlib
import importlib.util
import inspect
import json
import traceback
from types import ModuleType
from typing import Any

MARK = "reward import: "
ARGUMENTS = ("data_source", "solution_str", "ground_truth", "extra_info")


def load(path: str) -> ModuleType:
    """Import a file or module as verl does, and let a file import others in its folder."""
    if path.startswith("pkg://"):
        return importlib.import_module(path.removeprefix("pkg://").replace("/", "."))
    sys.path.append(os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("custom_module", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refusal(function: Any, others: list[str]) -> str | None:
    """Return why the function cannot be called as verl's reward managers do, with these others; None if it can."""
    try:
        inspect.signature(function).bind(**dict.fromkeys((*ARGUMENTS, *others)))
    except TypeError as error:
        return str(error)
    except ValueError:  # It has no signature, as some of C.
        return None
    return None


def outcome(path: str, name: str, *others: str) -> dict[str, Any]:
    """Return whether the module has the function, or the root error of its import and the line of the file."""
    file = os.path.abspath(path)
    try:
        function = getattr(load(path), name, None)
        return {"callable": callable(function), "refuses": refusal(function, list(others))}
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if os.path.abspath(frame.filename) == file
        ]
        root: BaseException = error
        while (cause := root.__cause__ or (None if root.__suppress_context__ else root.__context__)) is not None:
            root = cause
        if isinstance(root, SyntaxError) and root.filename == file:
            lines = [root.lineno]
        return {"error": f"{type(root).__name__}: {root}", "line": lines[-1] if lines else None}


if __name__ == "__main__":
    # Written past sys.stdout, which the file may have replaced, and without its exit handlers.
    os.write(1, f"\n{MARK}{json.dumps(outcome(*sys.argv[1:]))}\n".encode())
    os._exit(0)

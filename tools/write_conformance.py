"""Computes `expected` of each case in reinforcepp_verl/conformance/cases/ anew, by the slow reference.

    python tools/write_conformance.py            # after you added or changed a case
    python tools/write_conformance.py --check    # exit 1 if a file differs

Write the rest of a case by hand (reinforcepp_verl/conformance/README.md), with `"expected": {}`. A key that you then
remove from `expected`, or a value that you replace by null, stays so: it is not judged.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from reinforcepp_verl.conformance.case_files import FOLDER, as_text, read_cases


def expected(computed: Any, written: Any) -> Any:
    """Round `computed` to 12 digits, without the keys and values that `written` leaves out."""
    if isinstance(computed, dict):
        return {
            key: expected(value, written.get(key, ...))
            for key, value in computed.items()
            if key in (written or computed)
        }
    if isinstance(computed, list):
        old = written if isinstance(written, list) else [...] * len(computed)
        return [expected(*pair) for pair in zip(computed, old, strict=True)]
    return None if None in (computed, written) else float(f"{computed:.12g}") + 0.0


def main() -> None:
    """Write or check all cases."""
    changed = []
    for case in read_cases():
        text = as_text(replace(case, expected=expected(case.computed(), case.expected)))
        path = FOLDER / f"{case.name}.json"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            changed.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    print(f"{len(changed)} files differ from the slow reference: {', '.join(changed)}" if changed else "all are equal")
    if changed and "--check" in sys.argv:
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The process of a cell: `reinforcepp train`, which ends with the command that compares.

Started as `python -m reinforcepp_verl.comparison.cell_process PID OVERRIDES...`.
"""

from __future__ import annotations

import os
import sys

from reinforcepp_verl.common.parent_process import end_with_parent

if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", "reinforcepp_verl", "train", *sys.argv[2:]])

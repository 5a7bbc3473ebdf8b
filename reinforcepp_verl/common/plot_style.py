"""Style shared by all plots."""

from __future__ import annotations

from typing import Any

# File metadata per suffix: no date and no version, so that the same runs give the same bytes.
METADATA: dict[str, dict[str, None]] = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}


# Okabe and Ito's palette, safe for the common forms of color blindness, without yellow (too faint on white).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


GREY = "#666666"


STYLE: Any = {  # Any: matplotlib types the keys of rc_context as a Literal of all settings
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "#333333",
    "ytick.labelcolor": "#333333",
    "savefig.dpi": 150,
    "svg.hashsalt": "reinforcepp",
}

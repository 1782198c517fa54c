"""The AutoFeat engine against stock autofeat, in one run.

Each section stands in a file `_autofeat_NAME.py` with `measure(parsed)`, which returns its figures, and is listed here.
What is timed or weighed runs in a fresh process each time (`_autofeat_programs.py`); engine and stock take turns.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import _common

# Section: the file it is in, without its prefix.
SECTIONS = {
    "parity": "parity",
    "expansion": "expansion",
    "budget": "budget",
    "growth": "growth",
    "selection": "selection",
    "fit": "whole",
    "life": "life",
    "flights": "flights",
    "forecast": "forecast",
    "light": "light",
}


def main() -> int:
    """Measure and print."""
    parser = _common.options(__doc__)
    parser.add_argument(
        "--only", choices=SECTIONS, action="append", help="measure this section alone; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="few data sets, small tables, one run each")
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each kind, of which the median counts (default: 3)"
    )
    parsed = parser.parse_args()
    sections = [importlib.import_module(f"_autofeat_{SECTIONS[name]}") for name in parsed.only or SECTIONS]
    # This file has the name of the package that it measures, and stands first on the path.
    sys.path.remove(str(Path(__file__).resolve().parent))
    figures = [figure for section in sections for figure in section.measure(parsed)]
    return _common.finish("The AutoFeat engine against stock autofeat", figures, parsed)


if __name__ == "__main__":
    sys.exit(main())

"""What a person waits for before anything happens: `spine --help` against an interpreter that does nothing."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.measure import SPINE, alternate, child, compared


def help_text(runs: int) -> dict[str, Any]:
    """`spine --help` against ``python -c pass``."""
    floor, ours = alternate(runs, lambda: child([sys.executable, "-c", "pass"]), lambda: child([*SPINE, "--help"]))
    return {"target_seconds": 0.5, **compared(floor, ours)}

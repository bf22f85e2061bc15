"""core_calc_dependencies: which table is made from which, as the asset graph says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from market_spine.store.control import Control
from market_spine.store.declared import replace_rows
from market_spine.store.schema import CALC_DEPENDENCIES


def replace_all(control: Control, rows: Sequence[dict[str, Any]]) -> bool:
    """Make the table say ``rows``; whether anything changed."""
    return replace_rows(control, CALC_DEPENDENCIES, rows)

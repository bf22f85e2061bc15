"""How values are written where rows leave the platform: one text for commands and the API.

What belongs here: single values as JSON and CSV. What does not: how they look to people (`cli.output`).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any


def json_text(value: Any) -> str:
    """JSON text. Decimals as their exact digits; what JSON has no number for (NaN, infinity) is null."""
    if isinstance(value, Decimal | float) and not isfinite(value):
        return "null"
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(json_text, value))}]"
    if isinstance(value, datetime):
        value = moment(value, "T")
    is_known = value is None or isinstance(value, str | int | float)
    return json.dumps(value if is_known else str(value), ensure_ascii=False)


def csv_value(value: Any) -> Any:
    """``value`` as a cell of CSV, of which its text is taken."""
    if isinstance(value, datetime):
        return moment(value, "T")
    if isinstance(value, Decimal):
        return plain(value)
    return str(value).lower() if isinstance(value, bool) else value


def plain(value: Decimal) -> str:
    """A decimal as its exact digits, without an exponent or zeros behind them."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment(value: datetime, joint: str = "T") -> str:
    """A moment in UTC: to the microsecond for programs (T), to the second for people (a space)."""
    utc = value.astimezone(UTC) if value.tzinfo else value
    form = f"%Y-%m-%d{joint}%H:%M:%S" + (".%f" if joint == "T" and utc.microsecond else "")
    return utc.strftime(form) + "Z"

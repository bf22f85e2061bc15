"""Parameters: one that a path does not have is refused, since a misspelled one would be answered as another question;
so are control characters, which no name has, and which PostgreSQL does not keep.

What belongs here: their names, by the OpenAPI document. What does not: what they mean.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from market_spine.api.problems import DOCUMENT, PREFIX
from market_spine.assets.names import nearest
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from fastapi import Request

CONTROL = r"\x00-\x1f\x7f"
INVISIBLE, VISIBLE = re.compile(f"[{CONTROL}]"), f"^[^{CONTROL}]*$"
SHOWN = 40  # characters of a name that is none


def refuse_unknown(request: Request) -> None:
    """QueryError for a parameter that the path of ``request`` does not have, with the ones that are most like it."""
    for text in (request.url.path, *(one for pair in request.query_params.multi_items() for one in pair)):
        if INVISIBLE.search(text):
            raise QueryError("the request has control characters in it", "leave them away")
    paths: dict[str, Any] = request.app.openapi()["paths"]
    path = request.scope["route"].path_format
    told = (paths.get(f"{PREFIX}{path}") or paths[path])[request.method.lower()].get("parameters", ())
    known = [one["name"] for one in told if one["in"] == "query"]
    for name in request.query_params:
        if name not in known:
            here = ", ".join(known) or "none"
            remedy = f"{nearest(name[:SHOWN], known)} in {DOCUMENT}" if known else "leave it away"
            raise QueryError(f"there is no parameter {name[:SHOWN]!r} here; there are: {here}", remedy)

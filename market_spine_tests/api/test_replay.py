"""A hundred requests as the record has them, asked again of another server: the same bytes."""

from __future__ import annotations

import random
from itertools import product
from typing import Any

from market_spine.api.answers import Form
from market_spine.domain.serving import Scope
from market_spine_tests.api.server import FRIDAY, Api, serving
from market_spine_tests.cli.calls import call

COUNT, SEED = 100, 20251219
TABLES = (
    "otc_raw",
    "symbol_hhi",
    "venues",
    "weeks",
    "symbols",
    "tier_split",
    "trading_calendar",
    "symbols/SYDPSM/history",
)
WEEKS = ("2025-10-31", FRIDAY, "2025-11-14")
VERSIONS: tuple[dict[str, Any], ...] = ({}, {"as_of": "2025-12-15"}, {"first_release": "true"})


def test_a_hundred_requests_of_the_record(changed: Api) -> None:
    """Prevents what somebody acted on from being gone, whatever came since and whichever server is asked."""
    asked = [*product(TABLES, WEEKS, VERSIONS, Form)]
    random.Random(SEED).shuffle(asked)
    sent: dict[str, bytes] = {}
    for table, week, version, form in asked[:COUNT]:
        answer = changed.get(f"data/{table}", params={"week_ending": week, "format": form.value} | version)
        if answer.status_code == 404:  # the symbol has no row in that week
            continue
        assert answer.status_code == 200, answer.text
        sent[f"GET {answer.request.url.raw_path.decode()}"] = answer.content
    home = changed.desk.store.home.root
    assert call("--home", str(home), "run", "otc.ingest_week", "-w", FRIDAY, "--tier", "OTC", "--force").code == 0
    recorded = changed.get("uses", Scope.ADMIN, params={"limit": 1000}).json()["items"]
    logged = [one for one in recorded if one["request"] in sent]
    assert len(logged) == len(sent) > COUNT - 10
    with serving(home) as other:
        for one in logged:
            again = other.get(f"{one['request'].removeprefix('GET ')}&data_version={_version(one)}")
            assert again.status_code == 200, (one["request"], again.text)
            assert again.content == sent[one["request"]], one["request"]


NOTHING = "e3b0c44298fc1c149afbf4c8996fb924"  # the first half of the sha256 of no text: of no capture


def _version(one: dict[str, Any]) -> str:
    """The data version on record; nothing was known yet where there is none."""
    found: str = one["data_version"] or NOTHING
    return found

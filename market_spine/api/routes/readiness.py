"""May a week be used: the verdict as it stands now, with what stands against it, and all verdicts on record.

What belongs here: the status that tells a program, and when it should ask again. What does not: certifying, which the
sensor, every load, and `spine readiness` do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from market_spine.api import problems
from market_spine.api.desk import Desk
from market_spine.api.models import Verdict, Verdicts
from market_spine.api.problems import Problem
from market_spine.api.recording import told
from market_spine.api.security import Reader, desk_of
from market_spine.assets.scope import scope_of
from market_spine.automation.request import feed_of
from market_spine.domain.errors import NotFoundError
from market_spine.domain.weeks import week_ending as parse_week
from market_spine.feeds import load_feeds
from market_spine.governance.criteria import CRITERIA
from market_spine.governance.readiness import Scope, Standing, as_it_stands, standing
from market_spine.store.readiness import held

router = APIRouter(prefix="/readiness", tags=["readiness"])
Domain = Annotated[
    str, Path(max_length=80, description="A feed, by its name or domain", examples=["finra.otc_transparency", "otc"])
]
ReadyFor = Annotated[
    str | None, Query(max_length=40, description="The use: trading (if unset), compliance or research")
]
AGAIN = timedelta(minutes=5)  # what a person has to settle is seldom settled sooner
MOST_WAIT = timedelta(hours=1)


class NotReady(Problem, Verdict):
    """A week that may not be used, as a problem: the verdict, and what stands against it."""


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "It may be used: the verdict names its certificate"},
    **problems.responses(401, 403, 404, 422, 429),
    503: {
        "description": "It may not be used: the verdict, with what stands against it; or the store cannot answer",
        "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer"}}},
        "content": problems.content(NotReady),
    },
}


@router.get("/{domain}/{week_ending}", responses=RESPONSES, response_model=Verdict, summary="May a week be used")
def one(
    request: Request,
    holder: Reader,
    domain: Domain,
    week_ending: Annotated[str, Path(max_length=40, description="The Friday that ends it", examples=["2025-11-14"])],
    ready_for: ReadyFor = None,
) -> Response | Verdict:
    """200 where the week is certified for the use, 503 where it is not, 404 where nothing of it was ever captured.

    It is judged as it stands now. Certificates are issued by the daemon and by `spine readiness`: where neither has
    looked since all criteria hold, the issue is NOT_JUDGED.
    """
    feed = feed_of(load_feeds(), domain, "use")
    scope, week, desk = scope_of(feed), parse_week(week_ending), desk_of(request)
    use_case = scope.use_case(ready_for or "trading")
    row = as_it_stands(_standing(desk, scope, week), scope, desk.now(), use_case)
    verdict = verdict_of(row)
    told(request, holder, status=200 if verdict.is_ready else 503)
    if verdict.is_ready:
        return verdict
    reasons = "; ".join(issue.message for issue in verdict.blocking_issues)
    step = verdict.blocking_issues[0].remedy if verdict.blocking_issues else "spine readiness"
    detail = f"{week} is not ready for {use_case.name}: {reasons}"
    answer = problems.problem(request, 503, detail, step, "Not Ready", **verdict.model_dump(mode="json"))
    answer.headers["Retry-After"] = str(_wait(row, desk.now()))
    return answer


def _standing(desk: Desk, scope: Scope, week: date) -> Standing:
    """What is on record of a week, gathered once per transaction: it takes 18 ms. NotFoundError."""
    with desk.store.control.read() as connection:
        key = (scope.tables.domain, week, desk.seq(connection))
        known = desk.standings.get(key) or standing(connection, scope, week)
    if known is None:
        raise NotFoundError(
            f"nothing of the week {week} was ever captured", f"spine backfill --from {week} --to {week}"
        )
    desk.standings.put(key, known)
    return known


@router.get(
    "/{domain}", responses=problems.responses(401, 403, 404, 422, 429, 503), summary="The verdicts on all weeks"
)
def every(
    request: Request,
    holder: Reader,
    domain: Domain,
    ready_for: Annotated[str | None, Query(max_length=40, description="One use; all if unset")] = None,
) -> Verdicts:
    """Newest week first, one row per use."""
    feed = feed_of(load_feeds(), domain, "use")
    if ready_for:
        scope_of(feed).use_case(ready_for)
    with desk_of(request).store.control.read() as connection:
        rows = held(connection, feed.domain)
    told(request, holder)
    return Verdicts(items=[verdict_of(rows[at]) for at in sorted(rows, reverse=True) if ready_for in (None, at[1])])


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """A row of core_data_readiness as it is sent."""
    names = (
        "domain",
        "week_ending",
        "ready_for",
        "state",
        "certified_at",
        "certified_by",
        "certificate_id",
        "judged_at",
    )
    place = f"/api/v1/certificates/{row['certificate_id']}" if row["certificate_id"] else None
    return Verdict(
        **{name: row[name] for name in (*names, "judged_at")},
        **{name: bool(row[name]) for name in ("is_ready", *CRITERIA)},
        blocking_issues=json.loads(row["blocking_issues"]),
        certificate=place,
    )


def _wait(row: Mapping[str, Any], now: datetime) -> int:
    """Seconds after which asking again makes sense: when the preliminary period ends, if nothing else is against it."""
    facts = json.loads(row["facts_json"])
    if row["state"] != "PRELIMINARY" or not facts["captured_at"]:
        return int(AGAIN.total_seconds())
    over = datetime.fromisoformat(facts["captured_at"]) + timedelta(hours=facts["preliminary_hours"])
    return max(60, int(min(over - now, MOST_WAIT).total_seconds()))

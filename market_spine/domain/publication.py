"""When FINRA first publishes a week, and which week a file published on a given day holds.

The rule (FINRA Regulatory Notice 19-29, and recorded API rows): week_ending + 17 days for NMS Tier 1, + 31 days
for NMS Tier 2 and OTC. That is a Monday; where it is a US market holiday, the next business day. Not before 06:00
New York time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from market_spine.domain.errors import WeekError
from market_spine.domain.sessions import is_session
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import WEEK, week_ending, week_of

NEW_YORK = ZoneInfo("America/New_York")
PUBLICATION_TIME = time(6, 0)
LAG_DAYS: dict[Tier, int] = {Tier.NMS_TIER_1: 17, Tier.NMS_TIER_2: 31, Tier.OTC: 31}


def publication_date(week: date, tier: Tier) -> date:
    """The day on which FINRA first publishes ``week`` of ``tier``."""
    day = week_ending(week) + timedelta(days=LAG_DAYS[tier])
    while not is_session(day):
        day += timedelta(days=1)
    return day


def publication_instant(week: date, tier: Tier) -> datetime:
    """The earliest moment (UTC) at which ``week`` of ``tier`` can be published."""
    return datetime.combine(publication_date(week, tier), PUBLICATION_TIME, NEW_YORK).astimezone(UTC)


def is_due(week: date, tier: Tier, now: datetime) -> bool:
    """Whether FINRA should have published by ``now``."""
    return now >= publication_instant(week, tier)


def current_week(now: datetime) -> date:
    """The week (its Friday) that New York is in."""
    return week_of(now.astimezone(NEW_YORK).date())


def latest_due_week(tier: Tier, now: datetime) -> date:
    """The newest week of ``tier`` that FINRA should have published by ``now``."""
    local = now.astimezone(NEW_YORK).date()
    friday = local - timedelta(days=LAG_DAYS[tier] - 7)
    friday -= timedelta(days=(friday.weekday() - 4) % 7)
    while not is_due(friday, tier, now):
        friday -= WEEK
    return friday


def week_published_on(day: date, tier: Tier) -> date:
    """The week of ``tier`` whose first publication was on ``day``; an error that names the neighbours otherwise."""
    monday = day - timedelta(days=day.weekday())
    week = monday - timedelta(days=LAG_DAYS[tier])
    if publication_date(week, tier) == day:
        return week
    raise WeekError(
        f"FINRA first publishes no {tier} week on {day} ({day:%A}); week {week} is published on "
        f"{publication_date(week, tier)}",
        f"name the week yourself, e.g. --week-ending {week}",
    )

"""Options that several commands share, so that one word means one thing."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated

import typer

from market_spine.domain.errors import QueryError
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending

WeekOption = Annotated[
    str | None,
    typer.Option("--week-ending", "-w", metavar="FRIDAY", help="Week, named by the Friday that ends it (YYYY-MM-DD)."),
]
TierOption = Annotated[
    list[str] | None,
    typer.Option("--tier", "-t", metavar="TIER", help="NMS_TIER_1, NMS_TIER_2 or OTC; may be repeated."),
]
OneTierOption = Annotated[
    list[str] | None, typer.Option("--tier", "-t", metavar="TIER", help="NMS_TIER_1, NMS_TIER_2 or OTC: one of them.")
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="SOURCE", help="synthetic[:OPTIONS], file:PATH or finra-api; else MARKET_SPINE_SOURCE."
    ),
]
LimitOption = Annotated[int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="Rows to show at most.")]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Who says so; else the user who runs this.")]


SPAN = re.compile(r"(\d{1,5})([mhd])")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def span_of(text: str) -> timedelta:
    """A span of time as people write it: 30m, 4h, 2d."""
    found = SPAN.fullmatch(text)
    if not found:
        raise QueryError(f"{text!r} is no span of time", "write it as 30m, 4h or 2d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def actor_of(name: str | None) -> str:
    """Who acts: ``name``, or the user who runs this."""
    import getpass

    return name or getpass.getuser()


def week_of(text: str | None) -> date | None:
    """The week that an option names."""
    return week_ending(text) if text else None


def tiers_of(texts: list[str] | None) -> tuple[Tier, ...]:
    """The tiers that an option names, each once."""
    return tuple(dict.fromkeys(parse_tier(text) for text in texts or ()))


def shown_tiers(texts: list[str] | None) -> list[str]:
    """The same for what is listed: also ALL, as lists show what a whole week has."""
    named = [text for text in texts or () if text.strip().upper() != ALL_TIERS]
    return [ALL_TIERS] * (len(named) < len(texts or ())) + [*map(str, tiers_of(named))]

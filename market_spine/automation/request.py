"""From options to a request: which tables, which partitions, how to ingest. One grammar for `run` and `backfill`.

What belongs here: options, ``-p key=value`` and the weeks and tiers they mean. What does not: carrying it out (`work`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.errors import PartitionError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import last_n_weeks, week_ending, weeks_between

if TYPE_CHECKING:
    from market_spine.domain.contracts import Feed
    from market_spine.sources.delivery import Inventory


@dataclass(frozen=True)
class Params:
    """What was asked for, in words of the documents. Nothing is None by accident: None means "not said"."""

    week_ending: date | None = None
    tiers: tuple[Tier, ...] = ()
    weeks_back: int | None = None
    first: date | None = None
    last: date | None = None
    min_records: int | None = None
    policy: RevisionPolicy | None = None
    force: bool = False
    by_options: bool = False  # how a range is said: --from X (`backfill`), else -p from=X (`run`)

    @property
    def is_range(self) -> bool:
        return self.weeks_back is not None or self.first is not None

    def said(self, name: str, value: object) -> str:
        """``value`` as the command takes it, to be pasted."""
        return f"--{name.replace('_', '-')} {value}" if self.by_options else f"-p {name}={value}"


def _tiers(text: str) -> tuple[Tier, ...]:
    return tuple(dict.fromkeys(parse_tier(part) for part in text.split(",")))


def _whole(name: str, least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise PartitionError(f"{name}={text} is not a whole number from {least} on", f"write e.g. {name}=3")
        return int(text)

    return read


def policy_of(text: str) -> RevisionPolicy:
    """The revision policy that ``text`` names."""
    try:
        return RevisionPolicy(text.lower())
    except ValueError as error:
        known = ", ".join(RevisionPolicy)
        raise PartitionError(f"{text!r} is not a revision policy", f"use one of: {known}") from error


def _yes_no(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise PartitionError(f"force={text} is neither true nor false", "write force=true")
    return words[text.lower()]


# Parameter, as the documents write it -> (field, how its text is read).
READERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "week_ending": ("week_ending", week_ending),
    "tier": ("tiers", _tiers),
    "weeks_back": ("weeks_back", _whole("weeks_back", 1)),
    "from": ("first", week_ending),
    "to": ("last", week_ending),
    "min_records": ("min_records", _whole("min_records", 0)),
    "revision_policy": ("policy", policy_of),
    "force": ("force", _yes_no),
}


def parse(texts: Iterable[str], given: Params) -> Params:
    """``given`` (from options) with every ``key=value`` of ``texts``; saying a thing twice differently is an error."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if name not in READERS or not equals:
            cause = f"{name!r} is not a parameter" if equals else f"{text!r} is not key=value"
            raise PartitionError(cause, f"the parameters are: {', '.join(READERS)}; write e.g. -p weeks_back=3")
        place, read = READERS[name]
        new = read(value)
        old = found.get(place, getattr(given, place)) or None
        if old is not None and old != new:
            raise PartitionError(f"{name} is said twice: {_shown(old)} and {value}", f"say {name} once")
        found[place] = new
    return Params(**{one.name: found.get(one.name, getattr(given, one.name)) for one in fields(Params)})


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class Request:
    """Tables (short names) and partitions of one feed, and how raw is ingested."""

    feed: Feed
    name: str
    tables: tuple[str, ...]
    keys: tuple[WeekKey, ...]
    rolls_latest_only: bool = False
    params: Params = field(default_factory=Params)


def feed_of(feeds: Sequence[Feed], name: str | None, how: str = "add --feed") -> Feed:
    """The feed called ``name``; without a name the only one there is. ``how`` it is named is for the error."""
    chosen = [feed for feed in feeds if name in (None, feed.name, feed.domain)]
    if len(chosen) == 1:
        return chosen[0]
    cause = f"there is no feed {name!r}" if name else "there are several feeds, and none is named"
    first, *others = [feed.name for feed in feeds]
    more = f"  # or: {', '.join(others)}" if others else ""
    raise PartitionError(cause, f"{how} {first}{more}")


def keys_of(
    feed: Feed, params: Params, now: datetime, inventory: Callable[[], Inventory], is_file: bool
) -> tuple[list[WeekKey], str]:
    """The partitions that ``params`` name, and where a count of weeks was counted from."""
    tiers = params.tiers or feed.tiers
    if params.week_ending and params.is_range:
        raise PartitionError("one week and a range of weeks are asked for", "use --week-ending, or a range, not both")
    if params.last and not params.first:
        raise PartitionError("a range needs its first week", f"add {params.said('from', params.last)}")
    if params.first and params.last and params.last < params.first:
        swapped = f"{params.said('from', params.last)} {params.said('to', params.first)}"
        raise PartitionError(f"the range {params.first} .. {params.last} runs backwards", f"use {swapped}")
    if params.first and params.weeks_back:
        raise PartitionError("from and weeks_back both say where the range begins", "use one of them")
    if params.week_ending:
        return _checked(feed, [WeekKey(params.week_ending, tier) for tier in tiers], now), ""
    latest = {tier: _latest(tier, now, inventory, is_file) for tier in tiers}
    if params.first:
        ranges = {tier: weeks_between(params.first, params.last or max(latest[tier], params.first)) for tier in tiers}
        return _checked(feed, [WeekKey(week, tier) for tier in tiers for week in ranges[tier]], now), ""
    if params.weeks_back is None:
        raise PartitionError("no week is named", _name_weeks(params, max(latest.values())))
    # Tier 1 is published a fortnight before the others; all begin with one week, so that none lacks a tier.
    begin = max(feed.first_week, last_n_weeks(params.weeks_back, min(latest.values()))[0])
    origin = "weeks back count from " + ", ".join(f"{latest[tier]} ({tier})" for tier in tiers)
    keys = [WeekKey(week, tier) for tier in tiers for week in weeks_between(begin, latest[tier])]
    return _checked(feed, keys, now), origin


def _name_weeks(params: Params, newest: date) -> str:
    """How weeks are named to the command that ``params`` came by."""
    if params.by_options:
        return f"add {params.said('weeks_back', 4)}  # or {params.said('from', newest)}"
    return f"add --week-ending {newest}  # or a range such as {params.said('weeks_back', 3)}"


def _latest(tier: Tier, now: datetime, inventory: Callable[[], Inventory], is_file: bool) -> date:
    """What weeks are counted back from: the newest week of a folder, else the newest that FINRA should have published.

    A folder ends where it ends; of FINRA a missing newest week must be missed, not passed over.
    """
    from market_spine.domain.publication import latest_due_week

    held = [key.week_ending for key in inventory().keys if key.tier is tier] if is_file else []
    return max(held) if held else latest_due_week(tier, now)


def _checked(feed: Feed, keys: Sequence[WeekKey], now: datetime) -> list[WeekKey]:
    """``keys`` in order, if each is a week of the feed that has ended."""
    for key in keys:
        if key.week_ending < feed.first_week:
            raise PartitionError(
                f"week {key.week_ending} is before the feed {feed.name} begins", f"ask from {feed.first_week} on"
            )
        if key.week_ending > now.date():
            newest = latest_ended(now)
            raise PartitionError(f"week {key.week_ending} has not ended yet", f"the newest ended week is {newest}")
    return sorted(keys)


def latest_ended(now: datetime) -> date:
    """The newest Friday that is not in the future."""
    from datetime import timedelta

    today = now.date()
    return today - timedelta(days=(today.weekday() - 4) % 7)

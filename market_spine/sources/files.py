"""Weeks from files: a folder with declared names, or one file that the caller names.

What belongs here: which file holds which week and tier, from its name. What does not: reading its lines (`lines`,
`parse`), keeping its bytes (`landing`). A name that does not say is a problem with an override to use; a week or a
tier is never guessed, and of two files for one partition none is picked. Only of one file, given by itself, whose
name says nothing at all, the rows are asked (`content_week`).

Names understood, in any case: ``finra_otc_weekly_{tier1|tier2|otc}_{YYYYMMDD}.csv`` (FINRA's; the date is the day of
publication), ``{TIER}_{week_ending}.csv`` and ``{week_ending}/{TIER}.csv``; ``.psv`` does as well as ``.csv``.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import ContentError, SourceError, SpineError, TierError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import is_due, publication_date, week_published_on
from market_spine.domain.sessions import FIRST_DAY, LAST_DAY
from market_spine.domain.tiers import Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import nearest_friday, week_ending
from market_spine.sources import lines
from market_spine.sources.content_week import key_of_rows
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, Inventory, Part, Problem, WeekSource

_FINRA = re.compile(r"finra_otc_weekly_(?P<tier>tier1|tier2|otc)_(?P<day>\d{8})", re.IGNORECASE)
_TIER_WEEK = re.compile(r"(?P<tier>.+)_(?P<week>\d{4}-\d{2}-\d{2})")
_WEEK = re.compile(r"\d{4}-\d{2}-\d{2}")
_SUFFIXES = (".csv", ".psv")
_IGNORED = ("readme", "license")
_SILENT = "its name says neither week nor tier"


@dataclass(frozen=True, slots=True)
class _Named:
    """The partition that a file holds, and what says so."""

    path: Path
    key: WeekKey
    week_source: WeekSource
    witness: str = "its name"


@dataclass(frozen=True, slots=True)
class _Walk:
    """What was found below the root, and the state of root and folders that it was found in."""

    feed: Feed
    stamps: Mapping[Path, tuple[int, int]]
    named: Mapping[WeekKey, list[_Named]]
    problems: tuple[Problem, ...]

    def still_holds(self, feed: Feed) -> bool:
        """Whether no file can have come, gone or been renamed since: each of these changes its folder."""
        return self.feed is feed and all(_stamp(path) == stamp for path, stamp in self.stamps.items())


class FileSource:
    """A folder of weekly files, or one file. ``explicit``: the caller named week and tier, and that wins over a name.

    With ``explicit`` a single file is delivered as whatever partition is asked for; what its own name says otherwise
    stands in the delivery's ``headers["name_says"]``. Without it, only where its name (or, of a name that says nothing,
    its rows' smallest lastUpdateDate) says nothing else.
    """

    kind = series = "file"

    def __init__(self, root: Path, explicit: bool = False) -> None:
        self.root = root
        self.explicit = explicit
        self._walk: _Walk | None = None  # walking for every key of a range was quadratic: 10 ms each at 468 files

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        """Every file below the root as a partition or a problem; dot-files, README* and LICENSE* apart."""
        walk = self._walk = self._walked(feed)
        keys = [key for key, found in sorted(walk.named.items()) if len(found) == 1]
        twice = [self._twice(feed, key, found) for key, found in sorted(walk.named.items()) if len(found) > 1]
        return Inventory(tuple(keys), (*walk.problems, *twice))

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        """The file for ``key``; WRONG_CONTENT where two claim it, SourceError where root or file cannot be read."""
        if self.root.is_file():
            return self._fetch_single(feed, key, now)
        found = self._remembered(feed).named.get(key, [])
        if len(found) > 1:
            problem = self._twice(feed, key, found)
            return Empty(key, EmptyKind.WRONG_CONTENT, f"{problem.reason}: {problem.name}", problem.override)
        if not found:
            remedy = f"put it there as {key.tier_text}_{key.week_ending}.csv, or name the file: " + _override(
                feed, Path("FILE"), key.week_ending, key.tier
            )
            return _absent(key, now, f"no file below {self.root} holds {key}", remedy)
        return _delivery(found[0], key, now, {})

    def _fetch_single(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        named = self._named_single(feed)
        if named and named.key != key and not self.explicit:
            return _absent(
                key,
                now,
                f"{self.root} holds {named.key} by {named.witness}, not {key}",
                _override(feed, self.root, key.week_ending, key.tier),
            )
        headers = {"name_says": str(named.key)} if named and named.key != key else {}
        if named and not self.explicit:
            return _delivery(named, key, now, headers)
        return _delivery(_Named(self.root, key, WeekSource.CALLER), key, now, headers)

    def _named_single(self, feed: Feed) -> _Named | None:
        """What the file says of itself; its rows are asked only where the caller has not named week and tier."""
        if self.explicit:
            says = _named(self.root, feed)
            return says if isinstance(says, _Named) else None
        return next((found[0] for found in self._remembered(feed).named.values()), None)

    def _remembered(self, feed: Feed) -> _Walk:
        if self._walk is None or not self._walk.still_holds(feed):
            self._walk = self._walked(feed)
        return self._walk

    def _walked(self, feed: Feed) -> _Walk:
        """Everything below the root. The stamps are taken first: what changes during the walk makes it stale."""
        stamps = {path: _stamp(path) for path in self._folders()}
        named: dict[WeekKey, list[_Named]] = defaultdict(list)
        problems = []
        for path in self._files():
            says = self._says(path, feed)
            if isinstance(says, Problem):
                problems.append(says)
            else:
                named[says.key].append(says)
        return _Walk(feed, stamps, named, tuple(problems))

    def _says(self, path: Path, feed: Feed) -> _Named | Problem:
        says = _named(path, feed)
        if path == self.root and isinstance(says, Problem) and says.reason == _SILENT:
            return _by_rows(path, feed) or says
        return says

    def _folders(self) -> list[Path]:
        below = self.root.rglob("*") if self.root.is_dir() else ()
        return [self.root, *(path for path in below if path.is_dir() and not _hidden(path, self.root))]

    def _files(self) -> Iterator[Path]:
        if self.root.is_file():
            return iter([self.root])
        if not self.root.is_dir():
            raise SourceError(f"there is no file or folder {self.root}", f"check the path: ls -l {self.root}")
        return (path for path in sorted(self.root.rglob("*")) if path.is_file() and not _ignored(path, self.root))

    def _twice(self, feed: Feed, key: WeekKey, found: list[_Named]) -> Problem:
        paths = [str(each.path) for each in found]
        return Problem(
            ", ".join(paths),
            f"{len(paths)} files hold {key}, and none is picked",
            _override(feed, found[0].path, key.week_ending, key.tier),
        )


def _ignored(path: Path, root: Path) -> bool:
    return _hidden(path, root) or path.name.lower().startswith(_IGNORED)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _stamp(path: Path) -> tuple[int, int]:
    """When a folder or file last changed (ns), and its size; (0, 0) if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _override(feed: Feed, path: Path, week: date | None = None, tier: Tier | None = None) -> str:
    """The command that says what the name does not; YYYY-MM-DD and TIER stand for what only the caller can know."""
    source, week_text, tier_text = shlex.quote(f"file:{path}"), week or "YYYY-MM-DD", tier.value if tier else "TIER"
    return f"spine run {feed.domain}.weekly_refresh --source {source} --week-ending {week_text} --tier {tier_text}"


def _named(path: Path, feed: Feed) -> _Named | Problem:
    """What the file's name says, or what keeps it from saying it."""
    stem, parent = path.stem, path.parent.name
    if path.suffix.lower() not in _SUFFIXES:
        return Problem(str(path), f"files end in .csv or .psv, not {path.suffix or 'nothing'!r}", _override(feed, path))
    if match := _FINRA.fullmatch(stem):
        return _by_publication(path, feed, match["tier"], match["day"])
    if match := _TIER_WEEK.fullmatch(stem):
        return _by_path(path, feed, match["tier"], match["week"])
    if _WEEK.fullmatch(parent):
        return _by_path(path, feed, stem, parent)
    return Problem(str(path), _SILENT, _override(feed, path))


def _by_publication(path: Path, feed: Feed, tier_text: str, day_text: str) -> _Named | Problem:
    tier = parse_tier(tier_text)
    try:
        day = datetime.strptime(day_text, "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return Problem(str(path), f"{day_text} is not a date (YYYYMMDD)", _override(feed, path, tier=tier))
    if not FIRST_DAY + timedelta(days=31) <= day <= LAST_DAY:
        reason = f"{day} is outside the trading calendar ({FIRST_DAY} .. {LAST_DAY})"
        return Problem(str(path), reason, _override(feed, path, tier=tier))
    try:
        key = WeekKey(week_published_on(day, tier), tier)
    except SpineError as error:
        return Problem(str(path), error.cause, _override(feed, path, tier=tier))
    return _of_feed(_Named(path, key, WeekSource.PUBLICATION_DATE), feed)


def _by_path(path: Path, feed: Feed, tier_text: str, week_text: str) -> _Named | Problem:
    """A declared path. Both faults are told at once; the nearest Friday is offered, never taken."""
    reasons: list[str] = []
    tier: Tier | None = None
    week: date | None = None
    try:
        tier = parse_tier(tier_text)
    except TierError as error:
        reasons.append(error.cause)
    try:
        week = date.fromisoformat(week_text)
        week_ending(week)
    except SpineError as error:
        week = nearest_friday(date.fromisoformat(week_text))
        reasons.insert(0, f"{error.cause}; the nearest Friday is {week}")
    except ValueError:
        reasons.insert(0, f"{week_text} is not a date")
    if reasons or not tier or not week:
        return Problem(str(path), "; ".join(reasons), _override(feed, path, week=week, tier=tier))
    return _of_feed(_Named(path, WeekKey(week, tier), WeekSource.PATH), feed)


def _by_rows(path: Path, feed: Feed) -> _Named | None:
    """The one partition that the file's rows show, if they do and the feed has it."""
    key = key_of_rows(Part(path.name, path), feed)
    if key is None or key.tier not in feed.tiers:
        return None
    return _Named(path, key, WeekSource.PUBLICATION_DATE, "its rows' lastUpdateDate")


def _of_feed(named: _Named, feed: Feed) -> _Named | Problem:
    if named.key.tier in feed.tiers:
        return named
    known = ", ".join(feed.tiers)
    return Problem(
        str(named.path), f"the feed {feed.name} has no tier {named.key.tier}; it has {known}", f"move {named.path}"
    )


def _absent(key: WeekKey, now: datetime, reason: str, remedy: str) -> Empty:
    if key.tier and not is_due(key.week_ending, key.tier, now):
        day = publication_date(key.week_ending, key.tier)
        return Empty(key, EmptyKind.NOT_DUE, f"{reason}; FINRA publishes it on {day}", f"come back on {day}")
    return Empty(key, EmptyKind.NO_ROWS, reason, remedy)


def _delivery(named: _Named, key: WeekKey, now: datetime, headers: dict[str, str]) -> Delivery | Empty:
    """The file as a delivery, unless it is empty. Its bytes stay on disk.

    What is not text is delivered too: it must land before it is refused, since its bytes are the evidence.
    """
    part = Part(named.path.name, named.path)
    try:
        if lines.is_empty(part):
            return Empty(key, EmptyKind.NO_ROWS, f"{named.path} has no content", "fetch the file again")
        part = Part(part.name, part.data, lines.media_type_of(lines.first_line(part)))
        if lines.is_header_only(part):
            return Empty(key, EmptyKind.NO_ROWS, f"{named.path} has a header and no rows", "fetch the file again")
    except ContentError:
        part = Part(part.name, part.data, lines.PIPES)
    modified = datetime.fromtimestamp(_modified(named.path), UTC).isoformat()
    return Delivery(
        key=key,
        parts=(part,),
        source_kind=FileSource.kind,
        source_name=str(named.path),
        week_source=named.week_source,
        fetched_at=now,
        headers={"last_modified": modified, **headers},
    )


def _modified(path: Path) -> float:
    """Seconds since 1970; SourceError where the file has gone since it was read."""
    try:
        return path.stat().st_mtime
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}", f"see what stands there: ls -l {path}") from error

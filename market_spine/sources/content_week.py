"""The week and tier that a file's own rows show, where nothing else says them.

What belongs here: the last resort of finding a week, the smallest lastUpdateDate by the publication rule. What does
not: what names say (`files`), and whether each line is of its week (`parse`). A file has no week column, its rows are
of one tier, and a restated row carries a later date than the others; so that only the smallest date can be the first
publication. Where the rows do not show exactly one partition the answer is None, never the nearest guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import ContentError, TierError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import tier as parse_tier
from market_spine.sources import lines
from market_spine.sources.delivery import Part
from market_spine.sources.parse import detect_shape, week_of_content

_ISO_DATE = r"^\d{4}-\d{2}-\d{2}$"


def key_of_rows(part: Part, feed: Feed) -> WeekKey | None:
    """The partition of a pipe-separated part with tier and lastUpdateDate columns; None where its rows do not say.

    None: another format or shape, rows of two tiers or of an unknown one, no date, or a smallest date on which FINRA
    first publishes nothing. Lines with more or fewer fields than the header are left out: `parse` rejects them.
    """
    try:
        header = lines.header(part)
        if part.media_type != lines.PIPES:
            return None
        names = {role: name for name, role in detect_shape(feed, header).roles.items() if name in header}
        columns = [header.index(names[role]) for role in ("tier_text", "source_last_update_date")]
        tiers, first = _tiers_and_first_date(part, len(header), *columns)
        found = {parse_tier(text) for text in tiers}
        day = date.fromisoformat(first)
    except (ContentError, TierError, KeyError, ValueError):  # not text, unknown tier, no such column, no date
        return None
    if len(found) != 1:
        return None
    (tier,) = found
    week = week_of_content(day, tier)
    return WeekKey(week, tier) if week else None


def _tiers_and_first_date(part: Part, width: int, tier: int, day: int) -> tuple[set[str], str]:
    """Every tier text of the part, and its smallest ISO date ('' without one), batch by batch."""
    tiers: set[str] = set()
    first = ""
    for fields in _fields(part, width):
        tiers.update(pc.unique(pc.list_element(fields, tier)).to_pylist())
        days = pc.utf8_trim_whitespace(pc.list_element(fields, day))
        smallest = pc.min(days.filter(pc.match_substring_regex(days, _ISO_DATE))).as_py()
        first = min(filter(None, (first, smallest)), default="")
    return tiers, first


def _fields(part: Part, width: int) -> Iterator[Any]:
    """The lines of ``width`` fields as lists of text, in Arrow, one block of lines at a time."""
    for batch in lines.batches(1, part):
        fields: pa.ListArray = pc.split_pattern(batch.column("raw"), lines.DELIMITERS[lines.PIPES])
        fitting = fields.filter(pc.equal(pc.list_value_length(fields), width))
        if len(fitting):
            yield fitting

"""What the tests of parsing share: the headers, a good line, and one engine that parses parts through the statement."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb
import pyarrow as pa

from market_spine.domain.contracts import Feed
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine.sources import lines, parse
from market_spine.sources.delivery import Part

HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID|"
    "totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate"
)
SIMPLE = "WeekEnding|Tier|Symbol|MPID|TotalShares|TotalTrades"
GOOD = "OTC|AABB|Asia  Broadband's Inc|OTC LINK|OTCN|6753871|171|2025-12-15"
WEEK = date(2025, 11, 14)  # published 2025-12-15
ENGINE = duckdb.connect(config={"threads": 2})


def parsed(
    part: Part,
    week: date = WEEK,
    tier: Tier = Tier.OTC,
    explicit: bool = False,
    feed: Feed = FEED,
) -> list[dict[str, Any]]:
    """Every line of ``part`` as the statement answers it, in the order of lines."""
    header = lines.header(part)
    sql = parse.parse_sql(parse.detect_shape(feed, header), header, part.media_type, feed)
    ENGINE.register("stream", pa.RecordBatchReader.from_batches(lines.SCHEMA, lines.batches(1, part)))
    ENGINE.execute(
        f"CREATE OR REPLACE TEMP VIEW lines AS SELECT *, DATE '{week}' AS week_ending, '{tier.value}' AS tier, "
        f"{explicit} AS week_is_explicit FROM stream"
    )
    found = ENGINE.sql(f"{sql} ORDER BY part_no, line_no").to_arrow_table().to_pylist()
    return list(found)


def pipes(*rows: str, header: str = HEADER) -> Part:
    return Part("file", "\n".join((header, *rows)).encode())


def reasons(part: Part, **options: Any) -> list[str | None]:
    return [row["reason_code"] for row in parsed(part, **options)]

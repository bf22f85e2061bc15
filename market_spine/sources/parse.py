"""From lines of text to typed rows and rejects, in one SQL statement for any number of partitions.

What belongs here: syntax: columns, numbers, dates, and whether a line is of the week and tier it is delivered for.
What does not: rules about values (negative shares, a future date, an empty symbol), which are the feed's row rules and
apply at normalisation. Every line comes out exactly once: as a row, or as a reject with its reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from market_spine.domain.contracts import Feed, Shape
from market_spine.domain.errors import ContentError, WeekError
from market_spine.domain.publication import week_published_on
from market_spine.domain.sessions import FIRST_DAY, LAST_DAY
from market_spine.domain.sqltext import literal
from market_spine.domain.tiers import SPELLINGS, Tier
from market_spine.sources.lines import BAD_CHARACTER, COMMAS, DELIMITERS, JSON, MAX_LINE

reject_reasons: dict[str, str] = {
    "LINE_TOO_LONG": f"the line has more than {MAX_LINE} bytes; only its beginning is kept",
    "BAD_ENCODING": "the line is not UTF-8, or contains a NUL byte or the replacement character U+FFFD",
    "BLANK_LINE": "the line is empty",
    "FIELD_COUNT": "the line has more or fewer fields than the header",
    "UNKNOWN_TIER": "the line's tier is not a FINRA tier",
    "WRONG_TIER": "the line belongs to another tier than the one it was delivered for",
    "WRONG_WEEK": "the line belongs to another week than the one it was delivered for",
    "NOT_A_NUMBER": "shares (at most 14 digits and 6 decimals) or trades (whole) is not a plain number",
    "NOT_A_DATE": "the last update date is not an ISO date (YYYY-MM-DD)",
}

_SHARES = r"-?[0-9]{1,14}(\.[0-9]{1,6})?"
_TRADES = r"-?[0-9]{1,18}"
# Roles that are not text. Any role goes to the raw column of its own name, so that a feed may add one.
_CASTS = {"total_shares": "DECIMAL(20,6)", "total_trades": "BIGINT", "source_last_update_date": "DATE"}
_BLANKS = r", E' \t\r'"
_NEVER_NULL = frozenset({"symbol", "mpid"})  # an empty one stays '': the feed's rules judge it
# A quoted field, an unquoted one that does not begin with a quote, or nothing; the comma stands before each.
_CSV_FIELD = r',("(?:[^"]|"")*"|[^",][^,]*|)'


def detect_shape(feed: Feed, header: Sequence[str]) -> Shape:
    """The feed's shape that this header has, in any order of columns; more columns than the shape's are no fault.

    ContentError names the columns that lack (of the shape that comes nearest) and those found, or a name given twice.
    """
    twice = sorted(name for name, count in Counter(header).items() if count > 1)
    found = ", ".join(repr(name) for name in header)
    nearest = min(feed.shapes, key=lambda shape: (len(_missing(shape, header)), -_known(shape, header)))
    needed = dict.fromkeys(
        "|".join(name for name in shape.roles if name not in shape.optional) for shape in (nearest, feed.shapes[0])
    )
    remedy = f"get the file again from {feed.source_url}; its header has {', or '.join(needed)}, in any order"
    if twice:
        raise ContentError(f"the header names {', '.join(map(repr, twice))} more than once: {found}", remedy)
    if missing := _missing(nearest, header):
        raise ContentError(
            f"the header lacks {', '.join(map(repr, missing))} of the shape {nearest.name}; found: {found}", remedy
        )
    return nearest


def unknown_columns(shape: Shape, header: Sequence[str]) -> tuple[str, ...]:
    """The columns of ``header`` that the shape does not know: they are not stored, and should be reported."""
    return tuple(name for name in header if name not in shape.roles and name not in shape.unstored)


def week_of_content(min_last_update: date, tier: Tier) -> date | None:
    """The week whose first publication was on ``min_last_update``, the smallest lastUpdateDate of a file.

    The smallest, because a restated row carries a later date. None where FINRA first publishes nothing on that day.
    """
    if not FIRST_DAY + timedelta(days=31) <= min_last_update <= LAST_DAY:
        return None
    try:
        return week_published_on(min_last_update, tier)
    except WeekError:
        return None


def parse_sql(shape: Shape, header: Sequence[str], media_type: str, feed: Feed, max_line: int = MAX_LINE) -> str:
    """SQL that types every line of ``lines(part_no, line_no, raw, week_ending, tier, week_is_explicit)``.

    One row per line: the columns of ``feed.raw``, then ``reason_code`` (NULL for a good row, else a key of
    `reject_reasons`), ``detail``, and ``raw``, the line's text. ``raw`` is there for rejects only: to carry it along
    for good rows too costs as much as all the rest, and the landing has it.
    """
    names = [name for name in header if media_type != JSON or name in shape.roles]
    texts = _texts(shape, names)
    fields = "".join(f",\n    {expression} AS {_text(role)}" for role, expression in texts.items())
    meant = f"SELECT *, {_tier()} AS tier_meant FROM fields" if "tier_text" in texts else "FROM fields"
    columns = ",\n  ".join(f"CAST({_value(c.name, texts)} AS {c.type}) AS {c.name}" for c in feed.raw.columns)
    return f"""
WITH split AS (
  SELECT *, {_split(names, media_type)} AS f FROM {_pieces(media_type)}
),
fields AS (
  SELECT part_no, line_no, raw, week_ending, tier, week_is_explicit, len(f) AS field_count{fields}
  FROM split
),
judged AS (
  SELECT *, {_reason(shape, len(names), texts, max_line)} AS reason_code
  FROM ({meant})
)
SELECT {columns},
  reason_code,
  {_detail(len(names), texts)} AS detail,
  CASE WHEN reason_code IS NOT NULL THEN raw END AS raw
FROM judged"""


def _missing(shape: Shape, header: Sequence[str]) -> list[str]:
    return [name for name in shape.roles if name not in header and name not in shape.optional]


def _known(shape: Shape, header: Sequence[str]) -> int:
    return sum(name in shape.roles for name in header)


def _text(role: str) -> str:
    """The SQL column that holds a role's text."""
    return role if role.endswith("_text") else f"{role}_text"


def _pieces(media_type: str) -> str:
    """SQL for the relation to split: the lines, for comma separated ones with their fields still in quotes."""
    if media_type != COMMAS:
        return "lines"
    pieces = f"regexp_extract_all(',' || raw, {literal(_CSV_FIELD)}, 1)"
    return f"(SELECT *, CASE WHEN contains(raw, '\"') THEN {pieces} END AS pieces FROM lines)"


def _split(names: Sequence[str], media_type: str) -> str:
    """SQL for the list of a line's fields, trimmed, in the header's order; [] where the line is not well formed.

    In pipe files a quote is data. In comma separated lines the pieces that the expression found must join up to the
    line again: what it had to skip was malformed. To trim every field costs more than all other steps, and no line of
    FINRA's files needs it, so only lines with a blank beside a delimiter are trimmed.
    """
    if media_type == JSON:
        paths = ", ".join(literal(f'$."{name}"') for name in names)
        return f"CASE WHEN json_valid(raw) THEN {_trimmed(f'json_extract_string(raw, [{paths}])')} ELSE [] END"
    plain = f"string_split(raw, '{DELIMITERS[media_type]}')"
    plain = f"CASE WHEN {_has_blanks(DELIMITERS[media_type])} THEN {_trimmed(plain)} ELSE {plain} END"
    if media_type != COMMAS:
        return plain
    unquoted = "CASE WHEN x[1] = '\"' THEN replace(x[2:-2], '\"\"', '\"') ELSE x END"
    fields = _trimmed(f"list_transform(pieces, lambda x: {unquoted})")
    return f"CASE WHEN pieces IS NULL THEN {plain} WHEN array_to_string(pieces, ',') = raw THEN {fields} ELSE [] END"


def _trimmed(fields: str) -> str:
    return f"list_transform({fields}, lambda x: trim(x{_BLANKS}))"


def _has_blanks(delimiter: str) -> str:
    """SQL: whether a field of the line may begin or end with a blank; six searches are twice as fast as one regexp."""
    places = [f"contains(raw, {text})" for text in (f"' {delimiter}'", f"'{delimiter} '", r"E'\t'", r"E'\r'")]
    return " OR ".join([*places, "starts_with(raw, ' ')", "ends_with(raw, ' ')"])


def _texts(shape: Shape, names: Sequence[str]) -> dict[str, str]:
    """Role -> SQL for its text ('' where JSON says null)."""
    places = {shape.roles[name]: place for place, name in enumerate(names, start=1) if name in shape.roles}
    return {role: f"coalesce(f[{place}], '')" for role, place in places.items()}


def _value(column: str, texts: Mapping[str, str]) -> str:
    """SQL for the raw column's value. A reject has no numbers and no dates: what casts there may be no such thing."""
    if column in ("week_ending", "tier", "part_no", "line_no"):
        return column
    if column not in texts:
        return "''" if column in _NEVER_NULL else "NULL"
    text = _text(column)
    if column in _CASTS:
        return f"CASE WHEN reason_code IS NULL THEN TRY_CAST({text} AS {_CASTS[column]}) END"
    return text if column in _NEVER_NULL else f"nullif({text}, '')"


def _tier() -> str:
    """SQL for the tier that ``tier_text`` spells: FINRA's own spellings first, since they are nearly all."""
    own = {spelling: tier for tier in Tier for spelling in (tier.file_text, tier.api_code, tier.value)}
    known = " ".join(f"WHEN {literal(text)} THEN '{tier.value}'" for text, tier in own.items())
    folded = "replace(replace(upper(tier_text), ' ', '_'), '-', '_')"
    others = " ".join(f"WHEN {literal(text)} THEN '{tier.value}'" for text, tier in SPELLINGS.items())
    return f"CASE tier_text {known} ELSE CASE {folded} {others} END END"


def _iso_date(text: str) -> str:
    """SQL: whether ``text`` is YYYY-MM-DD. Casting back catches 2025-1-5; the length catches 'infinity'."""
    return f"coalesce(strlen({text}) = 10 AND CAST(TRY_CAST({text} AS DATE) AS VARCHAR) = {text}, false)"


def _reason(shape: Shape, field_count: int, texts: Mapping[str, str], max_line: int) -> str:
    """SQL for the first reason that a line must be rejected for, or NULL."""
    tests = [
        ("LINE_TOO_LONG", f"strlen(raw) > {max_line}"),
        ("BAD_ENCODING", f"contains(raw, '{BAD_CHARACTER}')"),
        ("BLANK_LINE", f"field_count = 1 AND trim(raw{_BLANKS}) = ''"),
        ("FIELD_COUNT", f"field_count <> {field_count}"),
    ]
    if "tier_text" in texts:
        tests += [("UNKNOWN_TIER", "tier_meant IS NULL"), ("WRONG_TIER", "tier_meant <> tier")]
    if "week_label" in texts:
        label = "week_label_text <> CAST(week_ending AS VARCHAR)"
        tests.append(("WRONG_WEEK", f"NOT week_is_explicit AND {label}"))
    if "week_start" in texts:
        tests.append(("WRONG_WEEK", "week_start_text <> CAST(week_ending - 4 AS VARCHAR)"))
    for role, pattern in (("total_shares", _SHARES), ("total_trades", _TRADES)):
        tests.append(("NOT_A_NUMBER", f"NOT regexp_full_match({role}_text, {literal(pattern)})"))
    if "source_last_update_date" in texts:
        text = "source_last_update_date_text"
        by_role = {role: name for name, role in shape.roles.items()}
        may_lack = by_role["source_last_update_date"] in shape.optional
        unless = f"{text} <> '' AND " if may_lack else ""
        tests.append(("NOT_A_DATE", f"{unless}NOT {_iso_date(text)}"))
    return "CASE " + "\n    ".join(f"WHEN {test} THEN '{code}'" for code, test in tests) + " END"


def _detail(field_count: int, texts: Mapping[str, str]) -> str:
    """SQL for what exactly was found in a reject."""
    written = {role: _text(role) if role in texts else "''" for role in ("tier_text", "week_label", "week_start")}
    tier, week = written["tier_text"], f"{written['week_label']} || {written['week_start']}"
    details = {
        "LINE_TOO_LONG": "'the first ' || length(raw) || ' characters are kept'",
        "FIELD_COUNT": "CASE WHEN field_count = 0 THEN 'not well formed: check its quotes or brackets' "
        f"ELSE field_count || ' fields, the header has {field_count}' END",
        "UNKNOWN_TIER": f"'tier ' || {tier}",
        "WRONG_TIER": f"'tier ' || {tier} || ', delivered for ' || tier",
        "WRONG_WEEK": f"'week ' || {week} || ', delivered for ' || CAST(week_ending AS VARCHAR)",
        "NOT_A_NUMBER": "'shares ' || total_shares_text || ', trades ' || total_trades_text",
    }
    if "source_last_update_date" in texts:
        details["NOT_A_DATE"] = "'last update ' || source_last_update_date_text"
    return "CASE reason_code " + " ".join(f"WHEN '{code}' THEN {text}" for code, text in details.items()) + " END"

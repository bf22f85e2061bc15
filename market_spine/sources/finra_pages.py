"""What the bytes of one page of FINRA's Query API hold: a check of the content, its rows, a page with fewer rows.

What belongs here: JSON and CSV as FINRA writes them. What does not: what to ask and what must come back
(``finra_api``), and casting values: rows are read only to be checked, and are delivered as bytes.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from market_spine.sources.delivery import EmptyKind
from market_spine.sources.finra_http import JSON

CSV = "text/csv"
CSV_ACCEPT = "text/plain"  # what FINRA calls its CSV
JSON_TYPES: tuple[str, ...] = (JSON,)
CSV_TYPES: tuple[str, ...] = (CSV_ACCEPT, CSV)
_GAP = re.compile(r"[\s,]*")

Row = Mapping[str, Any]


class Halt(Exception):
    """Reading a partition ends with nothing usable: what becomes an `Empty`."""

    def __init__(self, kind: EmptyKind, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.remedy = kind, reason, remedy


def _wrong(reason: str) -> Halt:
    remedy = "check the API address, and that no proxy or login page answers in its place; nothing was captured"
    return Halt(EmptyKind.WRONG_CONTENT, reason, remedy)


def check_content(response: httpx.Response, media_type: str, column: str) -> None:
    """Content type and first bytes must both be what was asked for: a web page comes with status 200, too."""
    said = response.headers.get("Content-Type", "")
    start = response.content[:200].lstrip()
    types, is_start = JSON_TYPES, start.startswith(b"[")
    if media_type == CSV:
        is_start = not start.startswith(b"<") and column.encode() in response.content.partition(b"\n")[0]
        types = CSV_TYPES
    if said.partition(";")[0].strip().lower() not in types or not is_start:
        raise _wrong(f"not {media_type} but {said or 'no content type'}, beginning {start[:40]!r}")


def _csv_records(text: str) -> list[tuple[str, list[str]]]:
    """Every CSV record, the header first, with the exact text that it stands in."""
    lines = list(io.StringIO(text, newline=""))
    reader, at = csv.reader(lines), 0
    records: list[tuple[str, list[str]]] = []
    for record in reader:
        if record:
            records.append(("".join(lines[at : reader.line_num]), record))
        at = reader.line_num
    return records


def read_rows(data: bytes, media_type: str) -> Sequence[Row]:
    """The rows of a page: at most 5,000, to be checked before anything is stored, hence plain Python."""
    try:
        if media_type == CSV:
            (_, header), *records = _csv_records(data.decode())
            return [dict(zip(header, record, strict=False)) for _, record in records]
        rows = json.loads(data.decode())
    except (ValueError, RecursionError, csv.Error) as error:
        raise _wrong(f"a page that is not valid {media_type}: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise _wrong("a JSON array of something other than rows")
    return list(rows)


def keep_rows(data: bytes, media_type: str, wanted: Sequence[bool]) -> bytes:
    """The page without its unwanted rows; the text of every row that stays is FINRA's own."""
    text = data.decode()
    if media_type == CSV:
        header, *lines = (line for line, _ in _csv_records(text))
        return "".join([header, *(line for line, is_kept in zip(lines, wanted, strict=True) if is_kept)]).encode()
    decoder, kept, at = json.JSONDecoder(), [], text.index("[") + 1
    for is_kept in wanted:
        gap = _GAP.match(text, at)
        start = gap.end() if gap else at
        _, at = decoder.raw_decode(text, start)
        if is_kept:
            kept.append(text[start:at])
    return f"[{','.join(kept)}]".encode()

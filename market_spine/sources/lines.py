"""A part's exact bytes as numbered lines of text, streamed in Arrow record batches.

What belongs here: opening, sniffing, decoding and cutting bytes into lines. What does not: the meaning of a line
(`parse`). Nothing loops over lines in Python and no part is held whole (JSON pages excepted: at most 3 MB each).

A line that cannot be decoded is not lost: its bad bytes become U+FFFD, the mark by which `parse` rejects it. A line of
more than ``MAX_LINE`` bytes keeps its first ``MAX_LINE + 1`` characters, and is rejected by its length.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import zstandard

from market_spine.domain.errors import ContentError, SourceError
from market_spine.sources.delivery import Part

PIPES, COMMAS, JSON = "text/plain", "text/csv", "application/json"
DELIMITERS = {PIPES: "|", COMMAS: ","}
MAX_LINE = 10_000  # bytes; the longest real line has about 200
BAD_CHARACTER = "\ufffd"
BLOCK = 1 << 20  # bytes read at once: 1 MB gives 15M lines/s, and 8 MB, outside the processor's cache, 12M
HEAD = 64 << 10  # bytes looked at before anything is believed
MAX_NON_TEXT = 0.3
SCHEMA = pa.schema([("part_no", pa.int32()), ("line_no", pa.int64()), ("raw", pa.string())])

# UTF-32 first: its mark begins with that of UTF-16.
_WIDE_BOMS = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}
_WIDE_BOMS |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v"))
_SURROGATES = re.compile("[\ud800-\udfff]")


def open_part(part: Part) -> BinaryIO:
    """The part's exact bytes as a stream; a path that ends in ``.zst`` (a landed object) is decompressed on the way."""
    if isinstance(part.data, bytes):
        return io.BytesIO(part.data)
    try:
        stream = part.data.open("rb")
    except OSError as error:
        raise SourceError(
            f"{part.name} cannot be read: {error.strerror}", f"see what stands there: ls -l {part.data}"
        ) from error
    if part.data.suffix == ".zst":
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(stream, closefd=True))
    return stream


def media_type_of(first_line: str) -> str:
    """The media type that a header line shows: pipes before commas, since issue names contain commas."""
    return COMMAS if "," in first_line and "|" not in first_line else PIPES


def first_line(part: Part) -> str:
    """The first line without its byte order mark and line end; ContentError where the part is not text in lines."""
    head = _checked_head(part)
    line, newline, _ = head.partition(b"\n")
    if not newline and len(head) == HEAD:
        raise ContentError(
            f"{part.name} has no line end in its first {HEAD} bytes", "check that it is FINRA's file: head -c 300 FILE"
        )
    text = line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").removesuffix("\r")
    if "\r" in text:
        raise ContentError(f"{part.name} ends its lines with CR alone", "convert it: tr '\\r' '\\n' < FILE > NEW_FILE")
    return text


def header(part: Part) -> tuple[str, ...]:
    """The column names: of the first line, or for JSON every name that occurs, in order. ContentError if empty."""
    if part.media_type == JSON:
        return tuple(dict.fromkeys(name for row in _json_rows(part) for name in row))
    text = first_line(part)
    if not text.strip():
        raise ContentError(f"{part.name} is empty", "fetch it again; FINRA publishes no empty file")
    if part.media_type == COMMAS:
        return tuple(name.strip() for name in next(csv.reader([text])))
    return tuple(name.strip() for name in text.split(DELIMITERS[PIPES]))


def is_empty(part: Part) -> bool:
    """Whether the part has no bytes at all, a byte order mark and white space apart."""
    with open_part(part) as stream:
        return not _head(stream, part).removeprefix(codecs.BOM_UTF8).strip()


def is_header_only(part: Part) -> bool:
    """Whether there is a header and no line after it (for JSON: an array without elements)."""
    if is_empty(part):
        return False
    if part.media_type == JSON:
        return not _json_rows(part)
    with open_part(part) as stream:
        _, _, more = _head(stream, part).partition(b"\n")
    return not more and next(_data_blocks(part, MAX_LINE), None) is None


def batches(part_no: int, part: Part, max_line: int = MAX_LINE) -> Iterator[pa.RecordBatch]:
    """Data lines as record batches of `SCHEMA`, the header line left out but counted (the first data line is 2).

    For JSON, ``line_no`` is the position in the array from 1 and ``raw`` the object's JSON text. ContentError is
    raised here, before the first batch, where the part is not text.
    """
    if part.media_type == JSON:
        return iter([_json_batch(part_no, part, max_line)])
    if part.media_type not in DELIMITERS:
        raise ContentError(
            f"{part.name} is {part.media_type}, not pipe or comma separated text or JSON",
            "fetch it as text/plain, text/csv or application/json",
        )
    first_line(part)
    return _text_batches(part_no, part, max_line)


def _text_batches(part_no: int, part: Part, max_line: int) -> Iterator[pa.RecordBatch]:
    line_no = 2
    for block in _data_blocks(part, max_line):
        batch = _batch(part_no, line_no, _clean(block), max_line)
        line_no += batch.num_rows
        yield batch


def _read(stream: BinaryIO, part: Part, size: int = -1) -> bytes:
    try:
        return stream.read(size)
    except zstandard.ZstdError as error:
        raise SourceError(
            f"{part.name} cannot be decompressed: {error}", "see which landed object was altered: spine verify"
        ) from error


def _head(stream: BinaryIO, part: Part) -> bytes:
    """The first `HEAD` bytes; a decompressing stream may answer with fewer than asked, so it is asked again."""
    head = b""
    while len(head) < HEAD and (chunk := _read(stream, part, HEAD - len(head))):
        head += chunk
    return head


def _checked_head(part: Part) -> bytes:
    """The first bytes, after making sure that they are text: not UTF-16, not HTML, not binary."""
    with open_part(part) as stream:
        head = _head(stream, part)
    for mark, encoding in _WIDE_BOMS.items():
        if head.startswith(mark):
            raise ContentError(
                f"{part.name} is encoded in {encoding}; FINRA's files are UTF-8",
                f"convert it: iconv -f {encoding} -t UTF-8 FILE > NEW_FILE",
            )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise ContentError(
            f"{part.name} is an HTML page, not data",
            "open it to see what the server says; FINRA's old website paths answer 200 with HTML",
        )
    if _is_binary(head):
        raise ContentError(f"{part.name} is not text", "check what it is: file FILE; unpack it if it is compressed")
    return head


def _is_binary(head: bytes) -> bool:
    if not head:
        return False
    controls = len(head) - len(head.translate(None, _CONTROLS))
    undecodable = 0 if head.isascii() else head.decode("utf-8", "replace").count(BAD_CHARACTER)
    return b"\0" in head or (controls + undecodable) / len(head) > MAX_NON_TEXT


def _data_blocks(part: Part, max_line: int) -> Iterator[bytes]:
    """Whole lines after the header, about `BLOCK` bytes at a time, each line with its newline (the last may lack it).

    A line longer than a block is shortened while it is read, so that a file without newlines stays in bounds.
    """
    keep = 4 * (max_line + 1)  # bytes that surely hold max_line + 1 characters
    carry, in_header = b"", True
    with open_part(part) as stream:
        while chunk := _read(stream, part, BLOCK):
            block = carry + chunk
            if in_header:
                _, newline, block = block.partition(b"\n")
                if not newline:
                    continue
                in_header = False
            end = block.rfind(b"\n") + 1
            carry = block[end:]
            if len(carry) > max(BLOCK, keep):
                carry = carry[:keep].decode("utf-8", "replace").encode()
            if end:
                yield block[:end]
    if carry:
        yield carry.removesuffix(b"\r")


def _clean(block: bytes) -> bytes:
    """The block as valid UTF-8 with LF line ends; bytes that are no text become U+FFFD."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    if b"\0" in block:
        block = block.replace(b"\0", BAD_CHARACTER.encode())
    if block.isascii():
        return block
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return block.decode("utf-8", "replace").encode()
    return block


def _batch(part_no: int, line_no: int, block: bytes, max_line: int) -> pa.RecordBatch:
    """The lines of a clean block. Arrow's text column is the block without its newlines, and where each line begins."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    count = len(ends)
    offsets = np.zeros(count + 1, np.int32)
    offsets[1:] = ends - np.arange(count)
    data = block.replace(b"\n", b"")
    raw: Any = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(data))
    if np.diff(offsets).max(initial=0) > max_line:
        raw = pc.utf8_slice_codeunits(raw, 0, max_line + 1)
    return _record_batch(part_no, line_no, raw)


def _record_batch(part_no: int, line_no: int, raw: Any) -> pa.RecordBatch:
    """Built from buffers: ``pa.array`` of a NumPy array would import pandas, 0.7 s at the first call."""
    count = len(raw)
    parts = np.full(count, part_no, np.int32)
    numbers = np.arange(line_no, line_no + count, dtype=np.int64)
    columns = [
        pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(parts)]),
        pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(numbers)]),
        raw,
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _json_rows(part: Part) -> list[dict[str, Any]]:
    """The array's objects. Numbers stay text: as floats, 14 integer digits and 6 decimals would lose the last ones."""
    _checked_head(part)
    with open_part(part) as stream:
        text = _read(stream, part).decode("utf-8-sig", "replace")
    remedy = "fetch the page again; the API answers application/json with an array of objects"
    try:
        rows = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as error:
        raise ContentError(f"{part.name} is not JSON: {error}", remedy) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ContentError(f"{part.name} is JSON, but not an array of objects", remedy)
    return rows


def _json_batch(part_no: int, part: Part, max_line: int) -> pa.RecordBatch:
    texts = [json.dumps(row, ensure_ascii=False) for row in _json_rows(part)]
    try:
        raw = pa.array(texts, pa.string())
    except UnicodeEncodeError:  # half a surrogate pair, written as an escape
        raw = pa.array([_SURROGATES.sub(BAD_CHARACTER, text) for text in texts], pa.string())
    return _record_batch(part_no, 1, pc.utf8_slice_codeunits(raw, 0, max_line + 1))

"""Lines: every byte of a part becomes part of exactly one numbered line, or the part is refused as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.errors import ContentError, SourceError
from market_spine.sources import lines
from market_spine.sources.delivery import Part

BAD = "\ufffd"


def text_part(data: bytes | str, media_type: str = lines.PIPES) -> Part:
    return Part("part", data.encode() if isinstance(data, str) else data, media_type)


def read(part: Part, max_line: int = lines.MAX_LINE) -> list[tuple[int, str]]:
    """(line number, text) of all data lines."""
    batches = list(lines.batches(1, part, max_line))
    assert all(batch.schema == lines.SCHEMA for batch in batches)
    for batch in batches:
        batch.validate(full=True)
    return [(row["line_no"], row["raw"]) for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"h|i\na|1\nb|2\n", [(2, "a|1"), (3, "b|2")]),
        (b"h|i\na|1\nb|2", [(2, "a|1"), (3, "b|2")]),
        (b"h|i\r\na|1\r\nb|2\r\n", [(2, "a|1"), (3, "b|2")]),
        (b"h|i\r\na|1\r\nb|2\r", [(2, "a|1"), (3, "b|2")]),
        (b"\xef\xbb\xbfh|i\na|1\n", [(2, "a|1")]),
        (b"h|i\n\na|1\n\n", [(2, ""), (3, "a|1"), (4, "")]),
        (b"h|i\n", []),
        (b"h|i", []),
        (b"", []),
        (b"h|i\nAc\xc3\xa9|1\n", [(2, "Ac\u00e9|1")]),
        (b"h|i\nAc\xe9|1\nb|2\n", [(2, f"Ac{BAD}|1"), (3, "b|2")]),
        (b"h|i\na\x0bb\x0cc\xc2\x85d\xe2\x80\xa8e|1\nb|2", [(2, "a\x0bb\x0cc\x85d\u2028e|1"), (3, "b|2")]),
        (b"h|i\na\rb|1\n", [(2, "a\rb|1")]),
        (b'h|i\n"a|1\n', [(2, '"a|1')]),
    ],
    ids=[
        "plain", "no last newline", "CRLF", "CRLF cut at the end", "BOM", "blank lines", "header only",
        "header without newline", "empty", "UTF-8", "one bad line", "other line separators are data",
        "a lone CR is data", "a stray quote is data",
    ],
)  # fmt: skip
def test_lines_and_their_numbers(data: bytes, expected: list[tuple[int, str]]) -> None:
    """Prevents rejects that point at the wrong line, and lines lost or invented at the edges of a file."""
    assert read(text_part(data)) == expected


def test_a_nul_byte_beyond_the_head_spoils_its_line_only() -> None:
    """Prevents one damaged sector at the end of a file from passing as text (or from refusing the whole file)."""
    good = b"a|1\n" * 20_000
    found = read(text_part(b"h|i\n" + good + b"x\0y|1\nb|2\n"))
    assert found[-2:] == [(20_002, f"x{BAD}y|1"), (20_003, "b|2")]


@pytest.mark.parametrize(
    ("line", "kept"),
    [("x" * 20, 20), ("x" * 21, 21), ("x" * 22, 21), ("x" * 500, 21), ("\u00e9" * 500, 21), ("\U0001f600" * 21, 21)],
)
def test_a_long_line_keeps_its_beginning(line: str, kept: int) -> None:
    """Prevents an over-long line from passing as complete: what is cut is always longer than the limit."""
    found = read(text_part(f"h\n{line}\nok\n"), max_line=20)
    assert found == [(2, line[:kept]), (3, "ok")]
    assert (len(found[0][1].encode()) > 20) == (len(line.encode()) > 20)


@pytest.mark.parametrize("filler", [b"x", b"\xff", "\u20ac".encode()], ids=["ASCII", "not UTF-8", "three bytes each"])
def test_a_line_longer_than_many_blocks_is_one_line(filler: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a line from being counted once per block, and a block's edge from breaking a character in two."""
    monkeypatch.setattr(lines, "BLOCK", 64)
    found = read(text_part(b"h\n" + b"a\n" * 3000 + filler * 1001 + b"\nb\n"), max_line=20)
    assert [number for number, _ in found] == list(range(2, 3004))
    assert found[-2:] == [(3002, filler.decode("utf-8", "replace") * 21), (3003, "b")]


LINE_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(st.lists(LINE_TEXT), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.integers(8, 90))
def test_law_what_goes_in_comes_out(texts: list[str], end: str, last_end: bool, block: int) -> None:
    """Prevents any line from being lost, joined or cut where two blocks meet, for any block size and line end."""
    data = "header" + "".join(end + text for text in texts) + (end if last_end else "")
    if texts and not texts[-1] and not last_end:
        texts = texts[:-1]  # the text's own end: "a\n" + "" is one line with its line end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK", block)
        assert read(text_part(data)) == list(enumerate(texts, start=2))


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        ("h|i\n1|2\n".encode("utf-16"), "part is encoded in UTF-16"),
        (b"\xfe\xff" + "h|i\n".encode("utf-16-be"), "part is encoded in UTF-16"),
        ("h|i\n1|2\n".encode("utf-32"), "part is encoded in UTF-32"),
        ("h|i\n1|2\n".encode("utf-16-le"), "part is not text"),
        (b"PK\x03\x04\x14\x00\x00", "part is not text"),
        (b"h|i\n" + bytes(range(128, 256)) * 10, "part is not text"),
        (bytes(range(1, 9)) * 10, "part is not text"),
        (b"<!DOCTYPE html><p>moved</p>", "part is an HTML page"),
        (b"\n  <HTML><body>moved", "part is an HTML page"),
        (b"h|i\ra|1\rb|2\r", "part ends its lines with CR alone"),
        (b"x" * (64 << 10) + b"\n", "part has no line end in its first 65536 bytes"),
    ],
)
@pytest.mark.parametrize("action", [lines.header, lambda part: lines.batches(1, part)], ids=["header", "batches"])
def test_what_is_not_lines_of_text_is_refused_before_the_first_batch(data: bytes, cause: str, action: object) -> None:
    """Prevents a web page, an archive or another encoding from becoming thousands of rejects, or worse, rows."""
    assert callable(action)
    with pytest.raises(ContentError) as caught:
        action(text_part(data))
    assert caught.value.cause.startswith(cause)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("data", "media_type", "expected"),
    [
        (b"\xef\xbb\xbf a |b\r\n1|2", lines.PIPES, ("a", "b")),
        (b"a|b", lines.PIPES, ("a", "b")),
        (b'"a","b, c",d\n', lines.COMMAS, ("a", "b, c", "d")),
        (b'[{"a": 1}, {"b": 2, "a": 3}]', lines.JSON, ("a", "b")),
        (b"[]", lines.JSON, ()),
    ],
)
def test_header(data: bytes, media_type: str, expected: tuple[str, ...]) -> None:
    """Prevents a byte order mark or quotes from becoming part of the first column's name."""
    assert lines.header(text_part(data, media_type)) == expected


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n", b"  \r\n"])
def test_an_empty_part_has_no_header(data: bytes) -> None:
    """Prevents an empty file from being a file with one column without a name."""
    with pytest.raises(ContentError, match="part is empty"):
        lines.header(text_part(data))


@pytest.mark.parametrize(
    ("data", "media_type", "empty", "header_only"),
    [
        (b"", lines.PIPES, True, False),
        (b"\xef\xbb\xbf\r\n", lines.PIPES, True, False),
        (b"a|b", lines.PIPES, False, True),
        (b"a|b\r\n", lines.PIPES, False, True),
        (b"a|b\n1|2", lines.PIPES, False, False),
        (b"a|b\n\n", lines.PIPES, False, False),
        (b"a" * (lines.HEAD + 1), lines.PIPES, False, True),
        (b"a" * lines.HEAD + b"\n", lines.PIPES, False, True),
        (b"a" * lines.HEAD + b"\n1", lines.PIPES, False, False),
        (b"", lines.JSON, True, False),
        (b"[]", lines.JSON, False, True),
        (b'[{"a": 1}]', lines.JSON, False, False),
    ],
)
def test_the_two_kinds_of_nothing(data: bytes, media_type: str, empty: bool, header_only: bool) -> None:
    """Prevents an empty answer from counting as a week that was ingested with 0 rows."""
    part = text_part(data, media_type)
    assert (lines.is_empty(part), lines.is_header_only(part)) == (empty, header_only)


@pytest.mark.parametrize(
    ("line", "expected"), [("a|b", lines.PIPES), ("a,b", lines.COMMAS), ("a, b|c", lines.PIPES), ("a", lines.PIPES)]
)
def test_media_type_of_a_header(line: str, expected: str) -> None:
    """Prevents FINRA's pipe files, whose names end in .csv, from being split at the commas of issue names."""
    assert lines.media_type_of(line) == expected


def test_json_elements_keep_every_digit_of_a_number() -> None:
    """Prevents 14 digits and 6 decimals from passing through a float, which keeps 15 to 17 digits in all."""
    part = text_part(b'[{"q": 12345678901234.123456, "e": 1e5}, {"q": null, "n": NaN, "t": true}]', lines.JSON)
    found = [(number, json.loads(raw)) for number, raw in read(part)]
    assert found == [
        (1, {"q": "12345678901234.123456", "e": "1e5"}),
        (2, {"q": None, "n": "NaN", "t": True}),
    ]


def test_json_with_bad_text_is_marked() -> None:
    """Prevents half a surrogate pair, or a byte that is no UTF-8, from stopping a page of 5,000 good rows."""
    part = text_part(b'[{"a": "x\\ud800y"}, {"a": "z\xff"}, {"a": "ok"}]', lines.JSON)
    assert [raw for _, raw in read(part)] == [f'{{"a": "x{BAD}y"}}', f'{{"a": "z{BAD}"}}', '{"a": "ok"}']


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b'[{"a": 1}', "part is not JSON"),
        (b"", "part is not JSON"),
        (b"[" * 200_000, "part is not JSON"),
        (b'{"a": 1}', "part is JSON, but not an array of objects"),
        (b'[{"a": 1}, 2]', "part is JSON, but not an array of objects"),
        (b"<!doctype html>", "part is an HTML page"),
    ],
)
def test_malformed_json_is_refused(data: bytes, cause: str) -> None:
    """Prevents a truncated page from being ingested as far as it goes."""
    with pytest.raises(ContentError) as caught:
        lines.batches(1, text_part(data, lines.JSON))
    assert caught.value.cause.startswith(cause)


def test_an_unknown_media_type_is_refused() -> None:
    """Prevents a new content type of the API from being split at pipes that it does not have."""
    with pytest.raises(ContentError, match="part is application/pdf"):
        lines.batches(1, text_part(b"a", "application/pdf"))


def test_a_missing_file_is_a_source_error(tmp_path: Path) -> None:
    """Prevents a bare FileNotFoundError without the next step."""
    with pytest.raises(SourceError, match="gone cannot be read: No such file"):
        lines.open_part(Part("gone", tmp_path / "gone"))


def test_a_compressed_object_reads_as_its_content(tmp_path: Path) -> None:
    """Prevents landed parts from reading differently than the bytes that were landed."""
    data = b"h|i\n" + b"a|1\n" * 300_000
    path = tmp_path / "object.zst"
    path.write_bytes(zstandard.compress(data))
    compressed = list(lines.batches(3, Part("part", path)))
    plain = list(lines.batches(3, text_part(data)))
    assert pa.Table.from_batches(compressed).equals(pa.Table.from_batches(plain))
    assert lines.header(Part("part", path)) == ("h", "i")


@pytest.mark.parametrize("media_type", [lines.PIPES, lines.JSON])
def test_an_altered_object_is_named_while_it_is_read(tmp_path: Path, media_type: str) -> None:
    """Prevents zstd's own error from reaching a user, or the lines before the damage from being taken for all."""
    path = tmp_path / "object.zst"
    whole = b"a|b\n" + b"".join(b"%d|%d\n" % (n, n * n) for n in range(200_000))
    stored = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(whole))
    stored[-1] ^= 1  # the checksum: all lines come out, and are not what was landed
    path.write_bytes(stored)
    with pytest.raises(SourceError, match=r"week\.psv cannot be decompressed") as caught:
        list(lines.batches(0, Part("week.psv", path, media_type)))
    assert "spine verify" in caught.value.remedy


MEMORY_PROBE = """
import resource, sys
from pathlib import Path
from market_spine.sources import lines
from market_spine.sources.delivery import Part
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
list(lines.batches(1, Part("small", b"h|i\\na|1\\n")))
before, count = peak(), 0
for batch in lines.batches(1, Part("big", Path(sys.argv[1]))):
    count += batch.num_rows
print(count, peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("line", "count"), [(b"x" * 99 + b"\n", 2_000_000), (b"x" * 100, 2_000_000)])
def test_a_file_of_200_mb_does_not_fill_the_memory(tmp_path: Path, line: bytes, count: int) -> None:
    """Prevents a big file, or one without any line end, from being held whole: at most 150 MB more, measured."""
    path = tmp_path / "big.psv"
    with path.open("wb") as file:
        file.write(b"header\n")
        for _ in range(200):
            file.write(line * (count // 200))
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, str(path)], check=True, capture_output=True, text=True, timeout=120
    )
    found, growth = map(int, answer.stdout.split())
    assert found == (count if line.endswith(b"\n") else 1)
    assert growth < 150

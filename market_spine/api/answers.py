"""Answers: rows rendered once per data version, question and form, as files of this process; the oldest go first.

What belongs here: rendering and keeping. What does not: which rows (`assets.reading`), and headers (`routes.data`).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from market_spine.assets.reading import Ask, statement
from market_spine.domain.errors import FormError, StoreError, unwritable
from market_spine.domain.texts import csv_value, json_text
from market_spine.store import alive

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

BUDGET = 512 << 20  # bytes of disk that are kept; an answer that is larger is kept until the next one comes
MANY, BLOCK = 5_000, 4096  # files that are kept, whatever their size; the disk that the smallest takes
WRITER = 1  # counts up when the same rows are written otherwise: a copy that somebody has is no longer right then
ENGINES = 2  # that read at once: each may use half of the cores' time and `engine.MEMORY_LIMIT`
PREFIX = "market_spine_answers_"
BUSY = "ask again, as Retry-After says"
PATIENCE = 20.0  # seconds that a request waits for one of them
CHUNK = 10_000  # rows that are in memory while CSV and JSON are written
BATCH = 100_000  # rows of a batch of Arrow, and of a row group of Parquet


class Form(StrEnum):
    """How rows are sent; each with its media type."""

    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self]


MEDIA_TYPES = {
    Form.JSON: "application/json",
    Form.CSV: "text/csv",
    Form.PARQUET: "application/vnd.apache.parquet",
    Form.ARROW: "application/vnd.apache.arrow.stream",
}
# Rows of one answer: JSON is for pages, CSV for sheets; the other two are for whole tables.
DEFAULT = {Form.JSON: 1_000, Form.CSV: 1_000_000}
MOST = {Form.JSON: 10_000, Form.CSV: 1_000_000}


def form_of(wanted: Form | None, accept: str) -> Form:
    """The form that was asked for by name, else the best one of an Accept header. FormError where there is none."""
    if wanted is not None:
        return wanted
    ranges = dict(_range(part) for part in accept.split(",") if part.strip()) or {"*/*": 1.0}
    liked = {form: _quality(ranges, media) for form, media in MEDIA_TYPES.items()}
    best = max(liked, key=lambda form: liked[form])  # the first one of several
    if liked[best] <= 0:
        step = f"accept one of: {', '.join(MEDIA_TYPES.values())}; or add format=json"
        raise FormError("no form of that kind", step)
    return best


def _quality(ranges: Mapping[str, float], media: str) -> float:
    """How much a media type is wanted: what is said of it itself counts before what is said of its kind, or of all."""
    for name in (media, f"{media.partition('/')[0]}/*", "*/*"):
        if name in ranges:
            return ranges[name]
    return 0.0


def _range(part: str) -> tuple[str, float]:
    media, *parameters = (text.strip() for text in part.lower().split(";"))
    told = [text[2:] for text in parameters if text.startswith("q=")]
    try:
        return media, float(told[0]) if told else 1.0
    except ValueError:
        return media, 0.0


@dataclass(frozen=True, slots=True)
class Rendered:
    """One answer: how many rows it has, whether more follow, and its size in bytes."""

    row_count: int
    is_cut: bool
    size: int


@dataclass(frozen=True, slots=True)
class Page:
    """What stands in an answer beside its rows: the table, their version, weeks and tiers that were asked for and are
    not there, and the cursor of the rows that follow."""

    table: str
    data_version: str
    missing: list[str]
    next: str


class Answers:
    """Answers of this process, in a folder that ends with it."""

    def __init__(self, budget: int = BUDGET) -> None:
        _sweep()
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        self._claim = alive.claim(Path(self._folder.name))
        self._budget, self._size = budget, 0
        self._held: OrderedDict[Hashable, tuple[Path, Rendered]] = OrderedDict()
        self._makers: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()
        self._engines = threading.BoundedSemaphore(ENGINES)

    def get(self, key: Hashable, make: Callable[[Path], Rendered]) -> tuple[Rendered, BinaryIO]:
        """The answer ``key``, made now where it is not there; once, whoever else asks for it meanwhile."""
        if found := self._open(key):
            return found
        with self._lock:
            maker = self._makers.setdefault(key, threading.Lock())
        if not maker.acquire(timeout=PATIENCE):
            raise StoreError(f"the same answer has been in the making for {PATIENCE:g} s", BUSY)
        try:
            return self._open(key) or self._made(key, make)
        finally:
            maker.release()
            with self._lock:
                self._makers.pop(key, None)

    def _made(self, key: Hashable, make: Callable[[Path], Rendered]) -> tuple[Rendered, BinaryIO]:
        path = Path(self._folder.name) / uuid.uuid4().hex
        try:
            path.parent.mkdir(exist_ok=True)  # whoever cleans folders of temporary files may have been here
            with self.turn():
                rendered = make(path)
            stream = path.open("rb")  # before it can be thrown away
        except OSError as error:
            path.unlink(missing_ok=True)
            raise unwritable(path, path.parent, error) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._keep(key, path, rendered)
        return rendered, stream

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One of the engines. StoreError where all of them stay busy."""
        if not self._engines.acquire(timeout=PATIENCE):
            raise StoreError(f"all {ENGINES} engines have been busy for {PATIENCE:g} s", BUSY)
        try:
            yield
        finally:
            self._engines.release()

    def _open(self, key: Hashable) -> tuple[Rendered, BinaryIO] | None:
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            path, rendered = self._held[key]
            try:
                return rendered, path.open("rb")
            except FileNotFoundError:  # somebody else threw it away
                self._drop(key)
                return None

    def _keep(self, key: Hashable, path: Path, rendered: Rendered) -> None:
        with self._lock:
            if key in self._held:  # made twice, when the first maker failed
                self._drop(key)
            self._held[key] = (path, rendered)
            self._size += max(rendered.size, BLOCK)
            while len(self._held) > 1 and (self._size > self._budget or len(self._held) > MANY):
                self._drop(next(iter(self._held)))

    def _drop(self, key: Hashable) -> None:
        path, rendered = self._held.pop(key)
        self._size -= max(rendered.size, BLOCK)
        path.unlink(missing_ok=True)

    def close(self) -> None:
        """Throw all answers away."""
        self._folder.cleanup()
        os.close(self._claim)


def _sweep() -> None:
    """Throw away what servers left that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's is for that one to sweep
            if not alive.is_held(folder):
                shutil.rmtree(folder)


def render(engine: DuckDBPyConnection, ask: Ask, form: Form, page: Page, path: Path) -> Rendered:
    """Write the rows of ``ask`` to ``path``; the same bytes for the same rows, whenever."""
    one_more = Ask(ask.named, ask.filters, ask.columns, ask.offset, None if ask.limit is None else ask.limit + 1)
    sql, values = statement(engine, one_more)
    if form in (Form.PARQUET, Form.ARROW):
        count, is_cut = _write_batches(engine.sql(sql, params=values), form, ask.limit, path)
    else:
        engine.execute(sql, values)
        count, is_cut = _write_text(engine, form, ask.limit, page, path)
    return Rendered(count, is_cut, path.stat().st_size)


def _write_text(engine: DuckDBPyConnection, form: Form, limit: int | None, page: Page, path: Path) -> tuple[int, bool]:
    names = [column[0] for column in engine.description or ()]
    count, is_cut = 0, False
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        if form is Form.CSV:
            rows.writerow(names)
        else:
            stream.write(_head(page))
        while chunk := engine.fetchmany(CHUNK):
            kept = chunk if limit is None else chunk[: limit - count]
            is_cut = is_cut or len(kept) < len(chunk)
            if form is Form.CSV:
                rows.writerows([csv_value(value) for value in row] for row in kept)
            else:
                stream.write("".join(_object(names, row, count + place) for place, row in enumerate(kept)))
            count += len(kept)
        if form is Form.JSON:
            stream.write(f'\n], "row_count": {count}, "next": {json.dumps(page.next if is_cut else None)}}}\n')
    return count, is_cut


def _head(page: Page) -> str:
    told = {"table": page.table, "data_version": page.data_version, "missing": page.missing}
    return f'{json.dumps(told)[:-1]}, "rows": ['


def _object(names: list[str], row: tuple[Any, ...], place: int) -> str:
    told = ", ".join(f"{json.dumps(name)}: {json_text(value)}" for name, value in zip(names, row, strict=True))
    return f"{',' if place else ''}\n{{{told}}}"


def _write_batches(relation: Any, form: Form, limit: int | None, path: Path) -> tuple[int, bool]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    reader: pa.RecordBatchReader = relation.to_arrow_reader(BATCH)
    count, is_cut = 0, False
    made: Mapping[Form, Callable[[], Any]] = {
        Form.PARQUET: lambda: pq.ParquetWriter(path, reader.schema, compression="zstd"),
        Form.ARROW: lambda: pa.ipc.new_stream(str(path), reader.schema),
    }
    with made[form]() as writer:
        for batch in reader:
            kept = batch if limit is None else batch.slice(0, max(limit - count, 0))
            is_cut = is_cut or kept.num_rows < batch.num_rows
            count += kept.num_rows
            writer.write_batch(kept)
    return count, is_cut

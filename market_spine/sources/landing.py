"""The landing: every delivery's exact bytes, kept for ever, by the sha256 of their content, with a sidecar each.

What belongs here: storing bytes once, describing each delivery, reading both back unaltered. What does not: captures
and control tables (`store`), the meaning of the bytes (`lines`, `parse`). FINRA keeps no old version and forgets
history after a few years, so that these bytes are the only evidence; nothing here deletes, and nothing is overwritten
but an object that no longer holds the bytes that its name promises.

    objects/ab/abcdef....zst                                          one part, zstd-compressed
    deliveries/{domain}/{week_ending}/{tier}/{fetched_at}-{id}.json   one delivery
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import zstandard
from fsspec.implementations.local import LocalFileSystem

from market_spine.domain.captures import STAMP, whole_second
from market_spine.domain.errors import SpineError, StoreError, unwritable
from market_spine.domain.keys import WeekKey
from market_spine.sources.delivery import Delivery, Part, Problem, WeekSource
from market_spine.sources.lines import open_part

LEVEL = 3  # zstd: the two real OTC files shrink to 18 %, at 130 MB/s with both hashes
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class LandedPart:
    """One part as landed: sha256 and size of its exact bytes, and the size of the compressed object."""

    name: str
    sha256: str
    bytes: int
    stored_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Landed:
    """One delivery as landed. ``sidecar`` is its description's path below the landing's root."""

    landing_id: str
    domain: str
    key: WeekKey
    fetched_at: datetime
    source_kind: str
    source_name: str
    week_source: WeekSource
    headers: Mapping[str, str]
    parts: tuple[LandedPart, ...]
    sidecar: str


class Landing:
    """A landing below ``root_url``: a local folder, or any fsspec URL (``memory://``, ``s3://``)."""

    def __init__(self, root_url: str) -> None:
        self.root_url = root_url
        self._fs, root = fsspec.core.url_to_fs(root_url)
        self._root = str(root).rstrip("/")
        self._is_local = isinstance(self._fs, LocalFileSystem)

    def store(self, delivery: Delivery, feed_domain: str) -> Landed:
        """Lands every part, then the sidecar. A part whose bytes are there already, unaltered, is not written again.

        A killed store leaves at most objects that no delivery names, and temporary files; storing again completes it.
        """
        if not delivery.parts:
            raise StoreError(f"the delivery of {delivery.key} has no parts", "answer Empty from the source instead")
        parts = tuple(self._store_part(part) for part in delivery.parts)
        identity = landing_id(parts)
        folder = f"deliveries/{feed_domain}/{delivery.key.week_ending}/{delivery.key.tier_text}"
        stem = f"{folder}/{whole_second(delivery.fetched_at):{STAMP}}-{identity[:12]}"
        body = _sidecar_body(delivery, feed_domain, identity, parts)
        sidecar = self._free_name(stem, body)
        if not self._fs.exists(self._path(sidecar)):
            self._write(sidecar, [body])
        return _landed(json.loads(body), sidecar)

    def read(self, landed: Landed | str, is_sound: bool = False) -> Delivery:
        """The delivery as it was fetched, its objects verified first; StoreError names one that is lost or altered.

        Local objects stay on disk and are decompressed as they are read; remote ones are held in memory. With
        ``is_sound`` local ones are not verified: `store` has just hashed them, and a backfill reads 500 MB.
        """
        known = landed if isinstance(landed, Landed) else self._read_sidecar(landed)
        return Delivery(
            key=known.key,
            parts=tuple(self._read_part(part, is_sound, _again(known.key)) for part in known.parts),
            source_kind=known.source_kind,
            source_name=known.source_name,
            week_source=known.week_source,
            fetched_at=known.fetched_at,
            headers=dict(known.headers),
        )

    def deliveries(self, domain: str | None = None) -> Iterator[Landed]:
        """All deliveries (of one feed's domain), in the order in which they were fetched."""
        found = [self._read_sidecar(sidecar) for sidecar in self._sidecars(domain)]
        return iter(sorted(found, key=_arrival))

    def verify(self) -> list[Problem]:
        """Every sidecar and every object that it names, read to the last byte: what is unreadable, lost or altered."""
        problems, read, sound = [], list[Landed](), set[str]()
        for sidecar in self._sidecars(None):
            try:
                read.append(self._read_sidecar(sidecar))
            except SpineError as error:
                problems.append(Problem(sidecar, error.cause, error.remedy))
        newest = {(one.domain, one.key): one.sidecar for one in sorted(read, key=_arrival)}
        for landed in read:
            is_newest = newest[landed.domain, landed.key] == landed.sidecar
            try:
                for part in landed.parts:
                    if part.sha256 not in sound:
                        self._verified(part, keep=False, again=_again(landed.key) if is_newest else "")
                        sound.add(part.sha256)
            except SpineError as error:
                problems.append(Problem(landed.sidecar, error.cause, error.remedy))
        return problems

    def _store_part(self, part: Part) -> LandedPart:
        """Hashes first, so that a known part costs no write, and again while writing: a file may change meanwhile."""
        sha256, size = _digest(_chunks(part))
        name = _object_name(sha256)
        if not self._holds(sha256):
            written = hashlib.sha256()
            self._write(name, _compressed(_chunks(part), written), check=lambda: _same(part.name, written, sha256))
        return LandedPart(part.name, sha256, size, int(self._fs.size(self._path(name))), part.media_type)

    def _holds(self, sha256: str) -> bool:
        """Whether the object is there and sound: delivering the same bytes again must mend one that was altered."""
        try:
            return self._digest_of(_object_name(sha256)) == sha256
        except (OSError, zstandard.ZstdError):  # missing or unreadable: it is written again
            return False

    def _read_part(self, part: LandedPart, is_sound: bool, again: str) -> Part:
        if self._is_local:
            if not is_sound:
                self._verified(part, keep=False, again=again)
            return Part(part.name, Path(self._path(_object_name(part.sha256))), part.media_type)
        return Part(part.name, self._verified(part, keep=True, again=again), part.media_type)

    def _verified(self, part: LandedPart, keep: bool, again: str) -> bytes:
        """Reads an object to its end and compares its sha256; its bytes if they are to be kept, else none.

        ``again`` is the command that fetches it once more; '' of what was delivered before the newest content of its
        week, which that command would put in the place of the newest, or not bring at all.
        """
        name = _object_name(part.sha256)
        remedy = f"restore {name} from a backup  # a later content of its week has arrived since"
        if again:
            remedy = f"{again}  # as long as the source delivers the same bytes; else restore {name} from a backup"
        kept: list[bytes] = []
        try:
            sha256 = self._digest_of(name, kept if keep else None)
        except FileNotFoundError as error:
            raise StoreError(f"the landed object {name} ({part.name}) is missing", remedy) from error
        except (OSError, zstandard.ZstdError) as error:
            raise StoreError(f"the landed object {name} ({part.name}) cannot be read: {error}", remedy) from error
        if sha256 != part.sha256:
            raise StoreError(f"the landed object {name} ({part.name}) was altered: its sha256 is {sha256}", remedy)
        return b"".join(kept)

    def _digest_of(self, name: str, kept: list[bytes] | None = None) -> str:
        """The sha256 of an object's content, read in chunks; they are added to ``kept`` if it is given."""
        with self._fs.open(self._path(name), "rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as data:
            chunks = iter(lambda: data.read(CHUNK), b"")
            return _digest(chunks if kept is None else _kept(chunks, kept))[0]

    def _free_name(self, stem: str, body: bytes) -> str:
        """The sidecar's name; the same bytes fetched twice in one second from different places get -2, -3 ..."""
        name, number = f"{stem}.json", 1
        while self._fs.exists(self._path(name)) and self._fs.cat_file(self._path(name)) != body:
            number += 1
            name = f"{stem}-{number}.json"
        return name

    def _write(self, name: str, chunks: Iterable[bytes], check: Callable[[], None] | None = None) -> None:
        """Under a temporary name first, then renamed: a reader sees all of a file or nothing of it."""
        target = self._path(name)
        folder, base = target.rsplit("/", 1)
        temporary = f"{folder}/.{base}.{uuid4().hex}.tmp"
        try:
            self._fs.makedirs(folder, exist_ok=True)
            with self._fs.open(temporary, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                if self._is_local:
                    file.flush()
                    os.fsync(file.fileno())
            if check:
                check()
            self._fs.mv(temporary, target)
            if self._is_local:
                _sync_folders(Path(folder), Path(self._root))
        except BaseException as error:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)
            if isinstance(error, OSError):
                raise unwritable(target, self._root, error) from error
            raise

    def _sidecars(self, domain: str | None) -> list[str]:
        below = self._path(f"deliveries/{domain}" if domain else "deliveries")
        found = self._fs.find(below) if self._fs.exists(below) else []
        return sorted(str(path).removeprefix(f"{self._root}/") for path in found if str(path).endswith(".json"))

    def _read_sidecar(self, sidecar: str) -> Landed:
        try:
            return _landed(json.loads(self._fs.cat_file(self._path(sidecar))), sidecar)
        except FileNotFoundError as error:
            raise StoreError(
                f"there is no delivery {sidecar} in {self.root_url}",
                f"see what there is below {self._path('deliveries')}",
            ) from error
        except (ValueError, KeyError, TypeError, SpineError) as error:
            raise StoreError(f"the sidecar {sidecar} is damaged: {error!r}", "restore it from a backup") from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _arrival(landed: Landed) -> tuple[datetime, int, str]:
    """By length before text: of one second, x.json comes before x-2.json and that before x-10.json."""
    return landed.fetched_at, len(landed.sidecar), landed.sidecar


def _again(key: WeekKey) -> str:
    """Fetching a partition once more: the same bytes mend what was altered or lost, and make no new capture."""
    tier = f" --tier {key.tier}" if key.tier else ""
    return f"spine backfill --from {key.week_ending} --to {key.week_ending}{tier}"


def landing_id(parts: tuple[LandedPart, ...]) -> str:
    """The identity of what was delivered: the part's sha256, or that of all parts' sha256s and media types."""
    if len(parts) == 1:
        return parts[0].sha256
    return hashlib.sha256("".join(f"{part.sha256} {part.media_type}\n" for part in parts).encode()).hexdigest()


def _object_name(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}.zst"


def _chunks(part: Part) -> Iterator[bytes]:
    with open_part(part) as stream:
        yield from iter(lambda: stream.read(CHUNK), b"")


def _digest(chunks: Iterable[bytes]) -> tuple[str, int]:
    """sha256 and size of a stream."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
    return sha256.hexdigest(), size


def _kept(chunks: Iterable[bytes], kept: list[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        kept.append(chunk)
        yield chunk


def _compressed(chunks: Iterable[bytes], sha256: Any) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
    for chunk in chunks:
        sha256.update(chunk)
        yield compressor.compress(chunk)
    yield compressor.flush()


def _same(name: str, written: Any, expected: str) -> None:
    if written.hexdigest() != expected:
        raise StoreError(f"{name} changed while it was landed", "wait until it is complete, then fetch it again")


def _sync_folders(folder: Path, root: Path) -> None:
    """fsync of the folder and of those above it up to the root's parent, since any of them may be new."""
    for each in (folder, *folder.parents):
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        if each == root.parent:
            return


def _sidecar_body(delivery: Delivery, domain: str, identity: str, parts: tuple[LandedPart, ...]) -> bytes:
    fields = {
        "landing_id": identity,
        "domain": domain,
        "week_ending": delivery.key.week_ending.isoformat(),
        "tier": delivery.key.tier_text,
        "fetched_at": delivery.fetched_at.isoformat(),
        "source_kind": delivery.source_kind,
        "source_name": delivery.source_name,
        "week_source": delivery.week_source.value,
        "headers": dict(delivery.headers),
        "parts": [asdict(part) for part in parts],
    }
    return (json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _landed(fields: Mapping[str, Any], sidecar: str) -> Landed:
    return Landed(
        landing_id=fields["landing_id"],
        domain=fields["domain"],
        key=WeekKey.from_string(f"{fields['tier']}:{fields['week_ending']}"),
        fetched_at=datetime.fromisoformat(fields["fetched_at"]),
        source_kind=fields["source_kind"],
        source_name=fields["source_name"],
        week_source=WeekSource(fields["week_source"]),
        headers=fields["headers"],
        parts=tuple(LandedPart(**part) for part in fields["parts"]),
        sidecar=sidecar,
    )

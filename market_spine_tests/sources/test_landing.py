"""The landing: exact bytes in, exact bytes out, stored once, described each time, never altered unnoticed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.errors import SourceError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.sources import landing as landing_module
from market_spine.sources import lines
from market_spine.sources.delivery import Delivery, Part, WeekSource
from market_spine.sources.landing import Landed, Landing

DOMAIN = "finra.otc_transparency"
KEY = WeekKey(date(2025, 11, 14), Tier.OTC)
DATA = b"h|i\r\na|1\r\nb|\xff"


LATER = datetime(2025, 12, 16, 15, tzinfo=UTC)


def delivery(*datas: bytes | Path, fetched_at: datetime = datetime(2025, 12, 15, 15, tzinfo=UTC)) -> Delivery:
    parts = tuple(Part(f"page {n}", data, lines.PIPES) for n, data in enumerate(datas or (DATA,), start=1))
    return Delivery(KEY, parts, "api", "https://api.finra.org/x", WeekSource.REQUEST, fetched_at, {"Record-Total": "2"})


def content(found: Delivery) -> list[bytes]:
    answer = []
    for part in found.parts:
        with lines.open_part(part) as stream:
            answer.append(stream.read())
    return answer


@pytest.fixture(params=["local", "file URL", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A landing's root on each kind of file system."""
    urls = {
        "local": str(tmp_path / "deliveries" / "land [1]*"),
        "file URL": f"file://{tmp_path}/landing",
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    yield urls[request.param]
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()


def files(root: str) -> list[str]:
    """All files below the root, by their paths below it."""
    system, path = fsspec.core.url_to_fs(root)
    return sorted(str(found).removeprefix(f"{path}/") for found in system.find(path))


def test_bytes_come_back_as_they_were(root: str) -> None:
    """Prevents evidence that was decoded, trimmed or given other line ends on its way."""
    landing = Landing(root)
    landed = landing.store(delivery(), DOMAIN)
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert landed.landing_id == sha256
    assert files(root) == [
        f"deliveries/{DOMAIN}/2025-11-14/OTC/20251215T150000Z-{sha256[:12]}.json",
        f"objects/{sha256[:2]}/{sha256}.zst",
    ]
    restored = landing.read(landed)
    assert content(restored) == [DATA]
    assert replace(restored, parts=()) == replace(delivery(), parts=())
    assert [(part.name, part.media_type) for part in restored.parts] == [("page 1", lines.PIPES)]
    assert [batch.num_rows for batch in lines.batches(1, restored.parts[0])] == [1, 1]
    assert landing.read(landed.sidecar) == restored


def test_the_sidecar_says_where_the_bytes_came_from(root: str) -> None:
    """Prevents bytes whose source, request and week nobody can tell years later."""
    landed = Landing(root).store(delivery(), DOMAIN)
    system, path = fsspec.core.url_to_fs(root)
    sidecar = json.loads(system.cat_file(f"{path}/{landed.sidecar}"))
    stored = sidecar["parts"][0].pop("stored_bytes")
    assert stored == system.size(f"{path}/objects/{landed.landing_id[:2]}/{landed.landing_id}.zst")
    assert sidecar == {
        "landing_id": landed.landing_id,
        "domain": DOMAIN,
        "week_ending": "2025-11-14",
        "tier": "OTC",
        "fetched_at": "2025-12-15T15:00:00+00:00",
        "source_kind": "api",
        "source_name": "https://api.finra.org/x",
        "week_source": "request",
        "headers": {"Record-Total": "2"},
        "parts": [
            {"name": "page 1", "sha256": landed.landing_id, "bytes": len(DATA), "media_type": "text/plain"},
        ],
    }


def test_objects_are_plain_zstd(tmp_path: Path) -> None:
    """Prevents a landing that only this code can read: `zstd -d` and `sha256sum` are enough."""
    landed = Landing(str(tmp_path)).store(delivery(), DOMAIN)
    path = tmp_path / "objects" / landed.landing_id[:2] / f"{landed.landing_id}.zst"
    with zstandard.ZstdDecompressor().stream_reader(path.read_bytes()) as stream:
        assert stream.read() == DATA


def test_the_same_bytes_are_written_once_and_described_twice(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a daily look at an unchanged week from filling the disk, and from leaving no trace."""
    landing = Landing(root)
    first = landing.store(delivery(), DOMAIN)
    monkeypatch.setattr(landing_module, "_compressed", pytest.fail)
    later = landing.store(delivery(fetched_at=datetime(2025, 12, 16, 15, tzinfo=UTC)), DOMAIN)
    assert landing.store(delivery(), DOMAIN) == first
    assert later.landing_id == first.landing_id
    assert [name.partition("/")[0] for name in files(root)] == ["deliveries", "deliveries", "objects"]
    assert list(landing.deliveries()) == [first, later]


def test_another_delivery_in_the_same_second_keeps_both(root: str) -> None:
    """Prevents the second of two fetches from overwriting where the first came from."""
    landing = Landing(root)
    first = landing.store(delivery(), DOMAIN)
    second = landing.store(replace(delivery(), source_name="elsewhere"), DOMAIN)
    again = landing.store(replace(delivery(), source_name="elsewhere"), DOMAIN)
    assert second.sidecar == first.sidecar.replace(".json", "-2.json")
    assert again == second
    assert [landed.source_name for landed in landing.deliveries()] == ["https://api.finra.org/x", "elsewhere"]


def test_the_identity_of_several_parts(root: str) -> None:
    """Prevents two answers of the same pages in another order, or of other types, from being one."""
    landing = Landing(root)
    landed = landing.store(delivery(b"one", b"two"), DOMAIN)
    hashes = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two")]
    text = f"{hashes[0]} text/plain\n{hashes[1]} text/plain\n"
    assert landed.landing_id == hashlib.sha256(text.encode()).hexdigest()
    assert content(landing.read(landed)) == [b"one", b"two"]
    swapped = landing.store(delivery(b"two", b"one"), DOMAIN)
    retyped = delivery(b"one", b"two")
    retyped = replace(retyped, parts=tuple(replace(part, media_type=lines.COMMAS) for part in retyped.parts))
    assert len({landed.landing_id, swapped.landing_id, landing.store(retyped, DOMAIN).landing_id}) == 3
    assert len([name for name in files(root) if name.startswith("objects")]) == 2


def test_deliveries_come_in_the_order_of_fetching_and_by_domain(root: str) -> None:
    """Prevents a rebuild from the landing that captures versions in another order than they were known."""
    landing = Landing(root)
    assert list(landing.deliveries()) == []
    start = datetime(2025, 12, 15, 15, tzinfo=UTC)
    for minutes in (3, 1, 2):
        moment = start + timedelta(minutes=minutes)
        landing.store(replace(delivery(str(minutes).encode()), fetched_at=moment), DOMAIN)
    landing.store(replace(delivery(), fetched_at=start, key=WeekKey(date(2025, 11, 21), None)), "other")
    found = list(landing.deliveries())
    assert [landed.fetched_at - start for landed in found] == [timedelta(minutes=n) for n in range(4)]
    assert found[0].key.tier is None
    assert [landed.domain for landed in landing.deliveries("other")] == ["other"]
    assert len(list(landing.deliveries(DOMAIN))) == 3
    assert list(landing.deliveries("finra")) == []


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_law_any_bytes_survive_a_landing(datas: list[bytes]) -> None:
    """Prevents any byte, or an empty page, from being lost between fetching and reading."""
    landing = Landing(f"memory://law{uuid.uuid4().hex}")
    landed = landing.store(delivery(*datas), DOMAIN)
    assert content(landing.read(landed)) == datas
    assert [part.bytes for part in landed.parts] == [len(data) for data in datas]
    assert landing.verify() == []


def test_a_restored_delivery_can_be_landed_again(root: str, tmp_path: Path) -> None:
    """Prevents moving a landing elsewhere from landing the compressed bytes instead of the exact ones."""
    landed = Landing(root).store(delivery(), DOMAIN)
    moved = Landing(str(tmp_path / "moved"))
    assert moved.store(Landing(root).read(landed), DOMAIN) == landed


def object_path(root: str, landed: Landed) -> tuple[fsspec.AbstractFileSystem, str]:
    system, path = fsspec.core.url_to_fs(root)
    return system, f"{path}/objects/{landed.landing_id[:2]}/{landed.landing_id}.zst"


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (zstandard.compress(b"h|i\na|2\n"), "was altered: its sha256 is "),
        (zstandard.compress(DATA)[:-3], "was altered: its sha256 is "),
        (b"", "was altered: its sha256 is "),
        (b"not zstd at all", "cannot be read: "),
        (None, "is missing"),
    ],
    ids=["other content", "cut", "emptied", "garbage", "deleted"],
)
def test_a_damaged_object_is_named(root: str, damage: bytes | None, cause: str) -> None:
    """Prevents altered evidence from being read as what FINRA published."""
    landing = Landing(root)
    landed = landing.store(delivery(), DOMAIN)
    system, path = object_path(root, landed)
    system.rm_file(path)
    if damage is not None:
        system.pipe_file(path, damage)
    with pytest.raises(StoreError) as caught:
        landing.read(landed)
    name = f"objects/{landed.landing_id[:2]}/{landed.landing_id}.zst"
    assert caught.value.cause.startswith(f"the landed object {name} (page 1) {cause}")
    assert name in caught.value.remedy
    (problem,) = landing.verify()
    assert (problem.name, problem.reason) == (landed.sidecar, caught.value.cause)


def test_what_was_restated_since_is_not_fetched_again(root: str) -> None:
    """Prevents a lost first release from being mended by a load that makes it the newest again."""
    landing = Landing(root)
    first, later = landing.store(delivery(), DOMAIN), landing.store(delivery(b"later", fetched_at=LATER), DOMAIN)
    for landed in (first, later):
        system, path = object_path(root, landed)
        system.rm_file(path)
    told = {problem.name: problem.override for problem in landing.verify()}
    assert told[first.sidecar].startswith(
        f"restore objects/{first.landing_id[:2]}/{first.landing_id}.zst from a backup"
    )
    assert told[later.sidecar].startswith("spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC")


@pytest.mark.parametrize("damage", [zstandard.compress(b"h|i\na|2\n"), zstandard.compress(DATA)[:-3], b"", b"garbage"])
def test_the_same_bytes_mend_a_damaged_object(root: str, damage: bytes) -> None:
    """Prevents the remedy that an altered object names, fetching the week again, from changing nothing."""
    landing = Landing(root)
    landed = landing.store(delivery(), DOMAIN)
    system, path = object_path(root, landed)
    system.pipe_file(path, damage)
    assert landing.store(delivery(), DOMAIN) == landed
    assert content(landing.read(landed)) == [DATA]
    assert landing.verify() == []
    assert [name for name in files(root) if name.endswith(".tmp")] == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"tier": "X", "week_ending": "2025-11-15"}'])
def test_a_damaged_sidecar_is_named(root: str, damage: bytes) -> None:
    """Prevents one unreadable description from hiding a delivery, or from stopping verify at the first."""
    landing = Landing(root)
    landed = landing.store(delivery(), DOMAIN)
    landing.store(replace(delivery(), source_name="elsewhere"), DOMAIN)
    system, path = fsspec.core.url_to_fs(root)
    system.pipe_file(f"{path}/{landed.sidecar}", damage)
    with pytest.raises(StoreError) as caught:
        list(landing.deliveries())
    assert caught.value.cause.startswith(f"the sidecar {landed.sidecar} is damaged: ")
    assert [problem.name for problem in landing.verify()] == [landed.sidecar]


def test_an_unknown_sidecar_is_named(root: str) -> None:
    """Prevents a bare FileNotFoundError without the next step."""
    with pytest.raises(StoreError, match=r"there is no delivery deliveries/x\.json in "):
        Landing(root).read("deliveries/x.json")


def test_a_delivery_without_parts_is_refused(root: str) -> None:
    """Prevents an empty answer from being landed as a delivery."""
    with pytest.raises(StoreError, match="the delivery of OTC:2025-11-14 has no parts"):
        Landing(root).store(replace(delivery(), parts=()), DOMAIN)


def test_a_source_file_that_is_gone_leaves_nothing(root: str, tmp_path: Path) -> None:
    """Prevents a sidecar that names bytes which were never landed."""
    with pytest.raises(SourceError, match="cannot be read"):
        Landing(root).store(delivery(b"page", tmp_path / "gone.csv"), DOMAIN)
    assert [name.partition("/")[0] for name in files(root)] == ["objects"]
    assert list(Landing(root).deliveries()) == []


def test_a_file_that_changes_while_it_is_landed_is_refused(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents bytes from being stored under the hash of other bytes, e.g. of a download that is still growing."""
    path = tmp_path / "growing.csv"
    path.write_bytes(DATA)
    digest = landing_module._digest

    def grow(chunks: Iterator[bytes]) -> tuple[str, int]:
        answer = digest(chunks)
        path.write_bytes(DATA + b"more")
        return answer

    monkeypatch.setattr(landing_module, "_digest", grow)
    with pytest.raises(StoreError, match="page 1 changed while it was landed"):
        Landing(root).store(delivery(path), DOMAIN)
    assert files(root) == []


KILLED = """
import os, sys
from datetime import UTC, date, datetime
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.sources import landing
from market_spine.sources.delivery import Delivery, Part, WeekSource
def die(chunks, sha256):
    yield b"half an object"
    os.kill(os.getpid(), 9)
landing._compressed = die
key = WeekKey(date(2025, 11, 14), Tier.OTC)
parts = (Part("page 1", sys.argv[2].encode()),)
moment = datetime(2025, 12, 15, 15, tzinfo=UTC)
landing.Landing(sys.argv[1]).store(Delivery(key, parts, "file", "x", WeekSource.CALLER, moment), "d")
"""


def test_a_killed_store_leaves_no_object_and_is_completed_by_the_next(tmp_path: Path) -> None:
    """Prevents half an object from being taken, by its name, for the bytes that it should hold."""
    root = tmp_path / "landing"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root), "text"], check=False, timeout=60)
    assert killed.returncode == -9
    assert [name.endswith(".tmp") for name in files(str(root))] == [True]
    landing = Landing(str(root))
    assert list(landing.deliveries()) == []
    landed = landing.store(delivery(b"text"), DOMAIN)
    assert content(landing.read(landed)) == [b"text"]
    assert landing.verify() == []


def test_files_and_folders_reach_the_disk_before_the_store_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a manifest row that survives a power cut, about bytes that did not."""
    synced: list[Path] = []
    monkeypatch.setattr("os.fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    landed = Landing(str(tmp_path / "new")).store(delivery(), DOMAIN)
    folder = tmp_path / "new" / "objects" / landed.landing_id[:2]
    assert synced[0].parent == folder  # the object, under its temporary name
    assert synced[0].suffix == ".tmp"
    assert synced[1:5] == [folder, folder.parent, tmp_path / "new", tmp_path]
    assert (tmp_path / "new" / landed.sidecar).parent in synced


MEMORY_PROBE = """
import resource, sys
from datetime import UTC, date, datetime
from pathlib import Path
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.sources.delivery import Delivery, Part, WeekSource
from market_spine.sources.landing import Landing
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
landing, key = Landing(sys.argv[2]), WeekKey(date(2025, 11, 14), Tier.OTC)
def store(data):
    moment = datetime(2025, 12, 15, 15, tzinfo=UTC)
    return landing.store(Delivery(key, (Part("p", data),), "file", "x", WeekSource.CALLER, moment), "d")
landing.read(store(b"small"))
before = peak()
landing.read(store(Path(sys.argv[1])))
print(peak() - before)
"""


@pytest.mark.slow
def test_a_file_of_200_mb_is_landed_in_bounded_memory(tmp_path: Path) -> None:
    """Prevents a big delivery from being held whole: at most 50 MB more, measured."""
    path = tmp_path / "big.csv"
    with path.open("wb") as file:
        for number in range(200):
            file.write(f"{number:099}\n".encode() * 10_000)
    answer = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE, str(path), str(tmp_path / "landing")],
        check=True, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert int(answer.stdout) < 50

"""The faults that `faults` plays: full and read-only disks, clocks that jump, damaged files and databases.

What belongs here: making a fault, and taking its cause away where that is not the program's to do (freeing space). What
does not: what is to happen then.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

DISK = "64m"  # of a small disk, before it is filled up
PAGE = 4096


@dataclass
class Place:
    """A home that is to be hurt, the home that it is a copy of, and how its commands are run."""

    home: Path
    base: Path
    stack: ExitStack
    settings: dict[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hurt:
    """How the cause is taken away (None: the remedy that is printed does it), and that in words."""

    remove: Callable[[], object] | None = None
    removed: str = ""


@dataclass(frozen=True)
class Fault:
    """One fault: whether it has to stop the command, and whether `spine verify` has to find it."""

    name: str
    strike: Callable[[Place], Hurt]
    command: tuple[str, ...] = ()
    stops_command: bool = True
    is_found: bool = False
    needs_mount: bool = False
    tells: str = ""  # what the command has to have shown: that it was struck


def mount(*words: str) -> None:
    """`mount` with ``words``; CalledProcessError where that is not allowed."""
    subprocess.run(["mount", *words], check=True, capture_output=True)


def can_mount(work: Path) -> bool:
    """Whether this user may mount."""
    if os.geteuid() != 0:
        return False
    target = work / "mount-probe"
    target.mkdir()
    try:
        mount("-t", "tmpfs", "none", str(target))
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
    else:
        subprocess.run(["umount", str(target)], check=True)
        return True
    finally:
        target.rmdir()


def _unmounted(place: Place, target: Path) -> None:
    place.stack.callback(lambda: subprocess.run(["umount", "-l", str(target)], check=False, capture_output=True))


def _small_disk(place: Place, target: Path) -> None:
    """Put what is in ``target`` on a small disk of its own."""
    aside = target.with_name(f"{target.name}.aside")
    target.rename(aside)
    target.mkdir()
    mount("-t", "tmpfs", "-o", f"size={DISK}", "none", str(target))
    _unmounted(place, target)
    shutil.copytree(aside, target, dirs_exist_ok=True)
    shutil.rmtree(aside)


def _fill(target: Path, left: int) -> Hurt:
    """Leave ``left`` KiB of the disk of ``target``."""
    found = os.statvfs(target)
    ballast = target / "ballast"
    with ballast.open("wb") as stream:
        stream.write(b"x" * max(0, found.f_bavail * found.f_frsize - left * 1024))
    return Hurt(ballast.unlink, "space freed")


def full(part: str, left: int) -> Callable[[Place], Hurt]:
    """The disk of one folder of the home is full but for ``left`` KiB."""

    def strike(place: Place) -> Hurt:
        _small_disk(place, place.home / part)
        return _fill(place.home / part, left)

    return strike


def full_control(left: int) -> Callable[[Place], Hurt]:
    """The control database is on a disk of its own, which is full."""

    def strike(place: Place) -> Hurt:
        folder = place.home / "control"
        folder.mkdir()
        for path in place.home.glob("control.db*"):
            path.rename(folder / path.name)
        place.settings["MARKET_SPINE_CONTROL_URL"] = f"sqlite:///{folder}/control.db"
        return full("control", left)(place)

    return strike


def full_spill(place: Place) -> Hurt:
    """The disk for DuckDB's temporary files is full."""
    folder = place.home / "tmp"
    folder.mkdir()
    place.settings["TMPDIR"] = str(folder)
    _small_disk(place, folder)
    _fill(folder, 64)

    def elsewhere() -> None:
        del place.settings["TMPDIR"]

    return Hurt(elsewhere, "TMPDIR pointed elsewhere")


def read_only(part: str) -> Callable[[Place], Hurt]:
    """One folder of the home is mounted read-only."""

    def strike(place: Place) -> Hurt:
        target = str(place.home / part)
        mount("--bind", target, target)
        _unmounted(place, place.home / part)
        mount("-o", "remount,bind,ro", target)
        return Hurt(lambda: mount("-o", "remount,bind,rw", target), "mounted for writing")

    return strike


CLOCK = """
import sys, threading, time
import time_machine
from pathlib import Path
before, during = (float(one) for one in sys.argv.pop(1).split(","))
traveller = time_machine.travel(time.time() + before, tick=True).start()
captures = Path(sys.argv[sys.argv.index("--home") + 1]) / "captures"
there = set(captures.rglob("*.parquet"))
def jump():
    while set(captures.rglob("*.parquet")) <= there:
        threading.Event().wait(0.02)
    traveller.shift(during - before)
    print("the clock jumped", file=sys.stderr, flush=True)
if during != before:
    threading.Thread(target=jump, daemon=True).start()
from market_spine.cli import main
main()
"""


def clock(before: float, during: float | None = None) -> Callable[[Place], Hurt]:
    """The clock of every command is off by ``before`` seconds, and by ``during`` from its first new capture on."""

    def strike(place: Place) -> Hurt:
        place.program = (sys.executable, "-c", CLOCK, f"{before},{before if during is None else during}")

        def right() -> None:
            place.program = ()

        return Hurt(right, "clock set right")

    return strike


def _captures(place: Place) -> list[Path]:
    return sorted((place.home / "captures").glob("otc_symbol_hhi/*/*/*.parquet"))


def _hurt_file(choose: Callable[[Place], list[Path]], how: Callable[[Path], object]) -> Callable[[Place], Hurt]:
    def strike(place: Place) -> Hurt:
        files = choose(place)
        how(files[len(files) // 2])
        return Hurt()

    return strike


def cut(path: Path) -> None:
    """Keep the first half."""
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    """Keep nothing."""
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    """Other bytes, as many."""
    path.write_bytes(bytes(range(256)) * (path.stat().st_size // 256))


def tear(path: Path) -> None:
    """Overwrite every fifth page."""
    data = bytearray(path.read_bytes())
    for start in range(PAGE, len(data), 5 * PAGE):
        data[start : start + PAGE] = b"\xff" * PAGE
    path.write_bytes(data)


def _control(place: Place) -> list[Path]:
    return [place.home / "control.db"]


def _objects(place: Place) -> list[Path]:
    """The landed bytes of a week and tier: the largest, so that it is none of the calendar."""
    return [max((place.home / "landing" / "objects").rglob("*.zst"), key=lambda path: path.stat().st_size)]


def _journal(place: Place) -> list[Path]:
    return sorted((place.home / "landing" / "journal").rglob("*.zst"))


def _last_commits_lost(place: Place) -> Hurt:
    """As if the -wal, with three loads in it, had been deleted."""
    kept = (place.home / "control.db").read_bytes()
    from benchmarks import faults

    for tier in ("T1", "T2"):
        faults.spine(
            place, "run", "otc.ingest_week", "-w", "2025-11-14", "--tier", tier, "--source", faults.SOURCE, "--force"
        )
    for path in place.home.glob("control.db*"):
        path.unlink()
    (place.home / "control.db").write_bytes(kept)
    return Hurt()


def _dagster(name: str) -> Callable[[Place], list[Path]]:
    return lambda place: [place.home / "dagster" / name]


SPILL = ("sql", "SELECT max(n) FROM (SELECT i, count(*) AS n FROM range(150000000) t(i) GROUP BY i)")
FAULTS = (
    *(
        Fault(f"disk full: {part}, {left} KiB left", full(part, left), needs_mount=True)
        for part, left in (
            ("landing", 0),
            ("landing", 24),
            ("captures", 0),
            ("captures", 40),
            ("dagster", 0),
            ("dagster", 60),
        )
    ),
    *(
        Fault(f"disk full: control database, {left} KiB left", full_control(left), needs_mount=True)
        for left in (0, 48, 400)
    ),
    Fault("disk full: published file", full("", 100), ("publish",), needs_mount=True),
    Fault("disk full: DuckDB's temporary files", full_spill, SPILL, needs_mount=True),
    *(
        Fault(f"read-only: {part or 'the whole home'}", read_only(part), needs_mount=True)
        for part in ("landing", "captures", "dagster", "")
    ),
    *(
        Fault(f"clock back by {name}", clock(-seconds))
        for name, seconds in (("an hour", 3600), ("a day", 86400), ("a year", 31536000))
    ),
    *(
        Fault(f"clock back by {name} during a load", clock(0, -seconds), stops_command=False, tells="the clock jumped")
        for name, seconds in (("an hour", 3600), ("a year", 31536000))
    ),
    Fault("capture truncated", _hurt_file(_captures, cut), stops_command=False, is_found=True),
    Fault("capture: one bit flipped", _hurt_file(_captures, flip), stops_command=False, is_found=True),
    Fault("capture gone", _hurt_file(_captures, Path.unlink), stops_command=False, is_found=True),
    Fault("landing: one bit of an object flipped", _hurt_file(_objects, flip), stops_command=False, is_found=True),
    Fault("landing: an object gone", _hurt_file(_objects, Path.unlink), stops_command=False, is_found=True),
    Fault("journal: one bit of an entry flipped", _hurt_file(_journal, flip), stops_command=False, is_found=True),
    Fault("journal: an entry gone", _hurt_file(_journal, Path.unlink), stops_command=False, is_found=True),
    Fault("control database: pages overwritten", _hurt_file(_control, tear), is_found=True),
    Fault("control database: truncated", _hurt_file(_control, cut), is_found=True),
    Fault("control database: no byte left", _hurt_file(_control, empty), is_found=True),
    Fault("control database: not SQLite at all", _hurt_file(_control, garbage), is_found=True),
    Fault("control database: gone", _hurt_file(_control, Path.unlink), is_found=True),
    Fault("control database: newest transactions lost (-wal deleted)", _last_commits_lost, is_found=True),
    Fault("Dagster's event log: not SQLite", _hurt_file(_dagster("history/runs/index.db"), garbage)),
    Fault("Dagster's record of runs: pages overwritten", _hurt_file(_dagster("history/runs.db"), tear)),
    Fault("Dagster's record of runs: truncated", _hurt_file(_dagster("history/runs.db"), cut)),
    Fault("Dagster's schedules: not SQLite", _hurt_file(_dagster("schedules/schedules.db"), garbage)),
)


def contents(home: Path, settings: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """(table, partition) -> content hash, of what is current."""
    from market_spine.store.manifest import Question, tables
    from market_spine.store.store import Store

    store = Store.at(home, settings.get("MARKET_SPINE_CONTROL_URL", ""))
    with store.control.read() as connection:
        names = tuple(tables(connection))
    found = {(one.table_name, str(one.key)): one.content_hash for one in store.select(Question(names))}
    store.control.dispose()
    return found


def unaccounted(home: Path, settings: Mapping[str, str]) -> list[str]:
    """Raw captures whose delivered lines are not its rows and its rejects."""
    import sqlalchemy as sa

    from market_spine.store.store import Store

    store = Store.at(home, settings.get("MARKET_SPINE_CONTROL_URL", ""))
    sql = """SELECT m.capture_id, d.line_count, m.row_count,
                    (SELECT count(*) FROM core_rejects r
                     WHERE r.source_id = m.landing_id AND r.table_name = m.table_name) AS rejected
             FROM core_manifest m JOIN core_deliveries d ON d.capture_id = m.capture_id AND d.action <> 'skipped'
             WHERE m.stage = 'INGESTED'"""
    with store.control.read() as connection:
        rows = connection.execute(sa.text(sql)).all()
    store.control.dispose()
    if not rows:
        return ["nothing was delivered"]
    return [row.capture_id for row in rows if row.line_count != row.row_count + row.rejected]

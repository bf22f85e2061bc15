"""What goes on while `kills` kills: work is asked for, commands run, readers read.

What belongs here: what users and schedules do. What does not: the platform's processes (`supervised`), and killing.
"""

from __future__ import annotations

import random
import subprocess
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import SPINE
from benchmarks.supervised import Platform, end, started

if TYPE_CHECKING:
    from market_spine.domain.keys import WeekKey
    from market_spine.store.store import Store
    from market_spine.store.work import Row

DOMAIN = "finra.otc_transparency"
PIPELINE = f"{DOMAIN}.weekly_refresh"
ASK_SECONDS = 4.0
MOST_OPEN = 80  # items: more would only wait
READ_SECONDS = 2.0
NONE_ADDED = 1  # exit code of `spine work enqueue` where all was asked for before


@dataclass
class Release:
    """What the source publishes from a moment on; every partition is asked for at least once of each release."""

    source: str
    since: datetime


@dataclass
class Bustle:
    """Askers, commands and readers of one home, until they are stopped; and what they met."""

    platform: Platform
    keys: list[WeekKey]
    release: Release
    seed: int
    is_asking: bool = True
    stopped: bool = False
    asked: set[int] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    reads: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    killed: set[int] = field(default_factory=set)
    command: subprocess.Popen[bytes] | None = None
    words: tuple[str, ...] = ()
    again: int = 0
    seen: set[tuple[str, str, str]] = field(default_factory=set)

    def start(self) -> None:
        """Begin all of it, a thread each."""
        store = self.store()
        for name, body in {
            "asks": lambda: self._ask(store),
            "rows of every table": lambda: self._count_rows(store),
            "published file": lambda: self._read_published(store),
            "web interface": self._ask_web,
        }.items():
            self.platform.run(lambda name=name, body=body: self._repeat(name, body))  # type: ignore[misc]
        self.platform.run(self._command_loop)

    def store(self) -> Store:
        """The store, by a connection of its own."""
        from market_spine.store.store import Store

        return Store.at(self.platform.home, "", 1)

    def _repeat(self, name: str, body: Callable[[], bool]) -> None:
        while not self.stopped:
            try:
                self.reads[name] += body()
            except Exception as error:  # noqa: BLE001  # counted and shown: none is expected
                self.failures.append(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:400]}")
            time.sleep(ASK_SECONDS if name == "asks" else READ_SECONDS)

    def _ask(self, store: Store) -> bool:
        """Current weeks before all else, half of them by force; and, of each release, once all that there is."""
        from market_spine.domain.work import BACKFILL, CATCH_UP, CURRENT
        from market_spine.governance.work import Ask, enqueue
        from market_spine.store import work
        from market_spine.store.ledger import Run

        with store.control.read() as connection:
            items, failed = work.items(connection), work.failed(connection, DOMAIN)
        wanted = self._unasked(items)
        dice = random.Random(f"{self.seed}:{len(items)}:{self.reads['asks']}")
        priority, params = BACKFILL, {}
        if not wanted and not self.is_asking:  # what failed three times, the next schedule asks for again
            places = {(row["week_ending"], row["tier"]) for row in failed}
            wanted, priority = [key for key in self.keys if (key.week_ending, key.tier_text) in places], CATCH_UP
            self.again += len(wanted)
        elif not wanted:
            if sum(row["state"] in work.OPEN for row in items) > MOST_OPEN:
                return False
            wanted, priority = dice.sample(self.keys, dice.randint(1, 4)), CURRENT
            params = {"force": dice.random() < 0.5}
        if not wanted:
            return False
        now = datetime.now(UTC)
        # What is asked for of one release is one process, so that it shares runs; a second look is another one.
        process = f"release {self.release.since}" if priority == BACKFILL else uuid.uuid4().hex
        run = Run("bustle", process, now)
        asks = [Ask(DOMAIN, PIPELINE, key, now, priority, None, params) for key in wanted]
        self.asked |= {row["id"] for row in enqueue(store, run, asks, "bustle").added}
        return True

    def all_asked(self, store: Store) -> bool:
        """Whether every partition has an item of the present release."""
        from market_spine.store import work

        with store.control.read() as connection:
            return not self._unasked(work.items(connection))

    def _unasked(self, items: list[Row]) -> list[WeekKey]:
        there = {(row["week_ending"], row["tier"]) for row in items if row["created_at"] >= self.release.since}
        return [key for key in self.keys if (key.week_ending, key.tier_text) not in there]

    def _count_rows(self, store: Store) -> bool:
        """Every table's latest captures have as many readable rows as recorded; and which contents there were."""
        from market_spine.assets.tables import tables_of
        from market_spine.feeds.otc import OTC
        from market_spine.store.manifest import Question

        tables = tables_of(OTC)
        with store.engine() as engine:
            for name, chosen in store.show_all(engine, tables, Question(tuple(tables))).items():
                counted = dict(engine.execute(f"SELECT capture_id, count(*) FROM {name} GROUP BY 1").fetchall())
                wrong = [one.capture_id for one in chosen if counted.get(one.capture_id, 0) != one.row_count]
                if wrong:
                    raise AssertionError(f"rows of captures that are not as recorded: {wrong}")
                self.seen |= {(one.table_name, str(one.key), one.content_hash) for one in chosen}
        return True

    def _read_published(self, store: Store) -> bool:
        """The published file, as a BI tool opens it."""
        import duckdb

        if not store.home.published.exists():
            return False
        sql = """SELECT (SELECT count(*) FROM otc_raw),
                        (SELECT sum(row_count) FROM core_manifest WHERE table_name = 'otc_raw' AND is_current = 1)"""
        with duckdb.connect(str(store.home.published), read_only=True) as engine:
            row = engine.execute(sql).fetchone()
        if row is None or row[0] != (row[1] or 0):
            raise AssertionError(f"published (rows, rows on record) are {row}")
        return True

    def _ask_web(self) -> bool:
        """A look at the web interface; while it is killed, nobody answers."""
        return answered(self.platform.web_port)

    def _command_loop(self) -> None:
        dice = random.Random(self.seed)
        log = self.platform.home / "commands.log"
        while not self.stopped:
            if not self.is_asking:
                time.sleep(READ_SECONDS)
                continue
            self.words = self._words(dice)
            begin = log.stat().st_size if log.exists() else 0
            self.command = started([*SPINE, *self.words], log, self.platform.home, self.platform.settings)
            code = self.command.wait()
            name = " ".join(self.words[:2] if self.words[0] in ("work", "run") else self.words[:1])
            if self.command.pid in self.killed:
                end(self.command.pid, 0.0)
                continue
            self.commands[name] += 1
            if code != 0 and not (name == "work enqueue" and code == NONE_ADDED):
                self.failures.append(f"spine {' '.join(self.words)} ended with {code}: {_tail(log, begin)}")

    def _words(self, dice: random.Random) -> tuple[str, ...]:
        key = dice.choice(self.keys)
        first, last = sorted(dice.choice([one for one in self.keys if one.tier == key.tier]).week_ending for _ in "12")
        tier = ("--tier", key.tier_text)
        return dice.choice(
            [
                ("run", "otc.weekly_refresh", "-w", str(key.week_ending), *tier, "-p", "force=true"),
                ("run", "otc.weekly_refresh", "-w", str(key.week_ending), *tier),
                ("backfill", "--from", str(first), "--to", str(last), *tier),
                ("work", "enqueue", "otc.weekly_refresh", "-w", str(key.week_ending), *tier, "-p", "force=true"),
                ("work", "enqueue", "otc.weekly_refresh", "-p", f"from={first}", "-p", f"to={last}", *tier),
                ("work", "reconcile"),
                ("verify",),
            ]
        )


def answered(port: int) -> bool:
    """Whether the web interface on ``port`` answers."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as response:
        return bool(response.status == 200)
    return False


def _tail(log: Path, begin: int) -> str:
    """The last words of what was written to ``log`` since it had ``begin`` bytes."""
    return " ".join(log.read_bytes()[begin:].decode(errors="replace").split())[-400:]

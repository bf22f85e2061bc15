"""Latest against as-of, on a store with three revisions of every partition, through the path of `spine query`.

Each question is asked from nothing: manifest, engine, views, answer. In one process, since the start of an interpreter
would hide the difference. What belongs here: reading. What does not: making the store (`backfill`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import weeks
from benchmarks.backfill import backfill_command, captures_of, new_home
from benchmarks.measure import Spread, child

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from market_spine.store.store import Store

REVISIONS = 3
TARGET = 1.5


def make_store(work: Path, count: int, revisions: int = REVISIONS) -> Path:
    """A store of ``count`` weeks in which every partition was restated until it has three revisions."""
    home, folder = new_home(work), work / f"revised_{count}"
    source = weeks.subset(work / "files", work / f"files_{count}", count)
    for revision in range(revisions):
        for path in source.glob("*.csv"):
            weeks.restate(path, folder / path.name, 100 * revision, every=500)
        child(backfill_command(home, folder, count))
    return home


def _questions(count: int) -> dict[str, tuple[str, dict[str, Any], str]]:
    """Name -> (table, bounds of the manifest question, SQL over ``{table}``)."""
    friday = weeks.week(count // 2)
    return {
        "one week of HHI": (
            "otc_symbol_hhi",
            {"weeks": [friday], "tiers": ["NMS_TIER_1"]},
            f"SELECT * FROM {{table}} WHERE week_ending = DATE '{friday}' AND tier = 'NMS_TIER_1'"
            " ORDER BY hhi DESC LIMIT 20",
        ),
        "one symbol, all weeks": (
            "otc_symbol_summary",
            {"tiers": ["NMS_TIER_1"]},
            "SELECT week_ending, total_volume FROM {table} WHERE tier = 'NMS_TIER_1' AND symbol ="
            " (SELECT min(symbol) FROM {table} WHERE tier = 'NMS_TIER_1') ORDER BY week_ending",
        ),
        "totals per tier and week": (
            "otc_venue_volume",
            {},
            "SELECT week_ending, tier, sum(total_shares), sum(total_trades) FROM {table} GROUP BY ALL ORDER BY ALL",
        ),
    }


def _middle(store: Store) -> datetime:
    """A moment at which every partition had its second revision: the last capture of a second revision."""
    import sqlalchemy as sa

    with store.control.read() as connection:
        text = "SELECT max(captured_at) FROM core_manifest WHERE revision = 2"
        found = str(connection.scalar(sa.text(text)))
    return datetime.fromisoformat(found.replace("Z", "+00:00")).astimezone(UTC)


def measure(work: Path, count: int, runs: int) -> dict[str, Any]:
    """Milliseconds per question, latest and as-of by turns; once through the manifest, once through the SQL macro."""
    from market_spine.assets.tables import tables_of
    from market_spine.assets.views import views_of
    from market_spine.feeds.otc import OTC
    from market_spine.store.publish import fill
    from market_spine.store.store import Store

    home = make_store(work, count)
    store = Store.at(home)
    moment = _middle(store)
    found: dict[str, Any] = {"weeks": count, "revisions": REVISIONS, "captures": captures_of(home), "questions": {}}
    for title, (name, bounds, sql) in _questions(count).items():
        latest = partial(_ask, store, name, bounds, sql, None)
        as_of = partial(_ask, store, name, bounds, sql, moment)
        if not (answers := (latest(), as_of()))[0] or answers[0] == answers[1]:
            raise RuntimeError(f"{title}: the two versions do not differ as they should; nothing was measured")
        found["questions"][title] = {**_compared(runs, latest, as_of), "target_ratio": TARGET}
    with store.engine() as engine:
        started = time.perf_counter()
        fill(store, engine, tables_of(OTC), views_of(OTC))
        found["ms_to_open_for_sql"] = round(1000 * (time.perf_counter() - started), 1)
        for title, (name, _, sql) in _questions(count).items():
            macro = sql.replace("{table}", f"{name}_asof('{moment:%Y-%m-%dT%H:%M:%S}Z')")
            plain, earlier = partial(_answer, engine, sql.format(table=name)), partial(_answer, engine, macro)
            found["questions"][f"{title} (SQL macro)"] = _compared(runs, plain, earlier)
    return found


def _ask(store: Store, name: str, bounds: dict[str, Any], sql: str, as_of: datetime | None) -> list[Any]:
    """One question from nothing, as `spine query` asks it."""
    from market_spine.assets.tables import tables_of
    from market_spine.domain.captures import View
    from market_spine.feeds.otc import OTC
    from market_spine.store.manifest import Question

    question = Question((name,), View.AS_OF if as_of else View.LATEST, as_of, **bounds)
    with store.engine() as engine:
        store.show_all(engine, {name: tables_of(OTC)[name]}, question)
        return _answer(engine, sql.format(table=name))


def _answer(engine: DuckDBPyConnection, sql: str) -> list[Any]:
    return engine.execute(sql).fetchall()


def _compared(runs: int, latest: Callable[[], Any], as_of: Callable[[], Any]) -> dict[str, Any]:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for held, ask in zip(times, (latest, as_of), strict=True):
            started = time.perf_counter()
            ask()
            held.append(1000 * (time.perf_counter() - started))
    ratio = Spread.of([second / first for first, second in zip(*times, strict=True)], 2)
    return {
        "latest_ms": Spread.of(times[0], 1).as_dict(),
        "as_of_ms": Spread.of(times[1], 1).as_dict(),
        "ratio": ratio.as_dict(),
    }

"""The documents' pipeline names, as views over the asset graph: a name, the tables it makes, and how it takes weeks.

Nothing is registered: the names are derived from the feeds' stages, so that they cannot disagree with what runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from market_spine.assets.tables import steps_of
from market_spine.domain.captures import VERBS, Stage
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import PartitionError


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A named part of the graph: short table names. ``rolls_latest_only`` computes windows for the last week only."""

    name: str
    description: str
    tables: tuple[str, ...]
    rolls_latest_only: bool = False


def _of_stage(feed: Feed, *stages: Stage) -> tuple[str, ...]:
    return tuple(name for name, step in steps_of(feed).items() if step.table.stage in stages)


def pipelines_of(feed: Feed) -> Mapping[str, Pipeline]:
    """The pipelines of ``feed`` by full name."""
    normalized, aggregated = _of_stage(feed, Stage.NORMALIZED), _of_stage(feed, Stage.AGGREGATED)
    rolling = _of_stage(feed, Stage.ROLLING)
    every = ("raw", *normalized, *aggregated, *rolling)
    known = (
        (VERBS[Stage.INGESTED], "Fetch, land, parse and capture the raw rows", ("raw",), False),
        (VERBS[Stage.NORMALIZED], "Set bad rows aside and sum the rest to venue volume", normalized, False),
        (VERBS[Stage.AGGREGATED], "Every measure of a week", aggregated, False),
        (VERBS[Stage.ROLLING], "Six-week windows that end with the week", rolling, False),
        ("weekly_refresh", "All of the above, in order", every, False),
        ("backfill_range", "All of the above for several weeks; windows for the latest week only", every, True),
    )
    made = (Pipeline(f"{feed.domain}.{verb}", text, tables, latest) for verb, text, tables, latest in known)
    return {pipeline.name: pipeline for pipeline in made}


def find(feeds: Iterable[Feed], name: str) -> tuple[Feed, Pipeline]:
    """The pipeline or asset called ``name``: a full name, or e.g. ``otc.ingest_week``, ``otc/raw``, ``otc_raw``."""
    known: dict[str, tuple[Feed, Pipeline]] = {}
    for feed in feeds:
        for pipeline in pipelines_of(feed).values():
            verb = pipeline.name.rpartition(".")[2]
            for alias in (pipeline.name, f"{feed.name}.{verb}", f"finra.{feed.name}.{verb}"):
                known[alias] = (feed, pipeline)
        for table in ("raw", *steps_of(feed)):
            asset = Pipeline(f"{feed.name}/{table}", f"The asset {feed.name}/{table}", (table,))
            for alias in (asset.name, feed.sql_name(table), table):
                known.setdefault(alias, (feed, asset))
    if name not in known:
        raise PartitionError(
            f"there is no pipeline or asset {name!r}", f"see them with: spine catalog  # {_near(name, known)}"
        )
    return known[name]


def _near(name: str, known: Iterable[str]) -> str:
    import difflib

    close: Sequence[str] = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"nearest: {', '.join(close)}" if close else "no similar name"

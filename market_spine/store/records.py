"""What runs recorded beside captures: where deliveries came from, and which checks failed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from market_spine.domain.contracts import Severity
from market_spine.domain.errors import SourceRefused
from market_spine.store.schema import DELIVERIES, QUALITY

Q = QUALITY.c
SYNTHETIC = "synthetic"  # the kind of source whose weeks are generated


@dataclass(frozen=True, slots=True)
class Failed:
    """One check of one table that failed in some runs: in how many partitions, and what it saw in the newest."""

    severity: Severity
    table_name: str
    check: str
    partitions: int
    week_ending: date
    tier: str
    actual: str
    expected: str


def failed_checks(connection: sa.Connection, execution_ids: Collection[str]) -> list[Failed]:
    """What the runs found wrong in partitions that were captured all the same; the gravest first."""
    of = (Q.severity, Q.table_name, Q.check_name)
    select = sa.select(*of, Q.week_ending, Q.tier, Q.actual, Q.expected).where(
        Q.execution_id.in_(execution_ids),
        Q.status == "failed",
        Q.severity != Severity.INFO,
        Q.is_expected == 0,
        Q.capture_id.is_not(None),
    )
    found: dict[tuple[str, ...], list[Failed]] = {}
    for severity, *rest in connection.execute(select.order_by(*of, Q.week_ending.desc(), Q.tier)):
        table_name, check, *seen = rest
        of_check = found.setdefault((severity, table_name, check), [])
        of_check.append(Failed(Severity(severity), table_name, check, 1, *seen))
    made = [replace(one[0], partitions=len(one)) for one in found.values()]
    gravity = list(Severity)
    return sorted(made, key=lambda one: -gravity.index(one.severity))


def refuse_mixture(connection: sa.Connection, domain: str, kind: str, series: str, root: Path) -> None:
    """SourceRefused where captures from a source of ``kind`` would stand beside generated ones, or generated ones
    beside FINRA's or those of another ``series``: in an answer nobody could tell them apart."""
    held = _sources(connection, domain)
    kinds = {one.kind for one in held}
    if SYNTHETIC not in kinds | {kind}:
        return
    if kinds | {kind} == {SYNTHETIC}:
        _refuse_other_series(held, series, root)
        return
    if kinds == {SYNTHETIC}:
        raise SourceRefused(
            f"the store {root} holds generated weeks, and the source ({kind}) has FINRA's",
            "name another home: --home FOLDER, or MARKET_SPINE_HOME",
        )
    if SYNTHETIC in kinds:
        raise SourceRefused(
            f"the store {root} holds generated weeks beside FINRA's",
            "load FINRA's weeks into another home: --home FOLDER",
        )
    raise SourceRefused(
        f"the store {root} holds FINRA's weeks, and the source generates weeks",
        "name the source: --source file:FOLDER, or MARKET_SPINE_SOURCE; for generated weeks another home: --home",
    )


def _refuse_other_series(held: Sequence[_Source], series: str, root: Path) -> None:
    """Generated weeks of another seed or scale are other weeks, not restated ones. Of ``held`` the last one counts: two
    series may have met in a store that is older than this rule."""
    if held and held[-1].series != series:
        raise SourceRefused(
            f"the store {root} holds generated weeks of {held[-1].series}, and the source makes those of {series}",
            f"export MARKET_SPINE_SOURCE={held[-1].name}  # or another home: --home FOLDER",
        )


class _Source(NamedTuple):
    kind: str
    name: str

    @property
    def series(self) -> str:
        """As the source itself says it."""
        return series_of(self.kind, self.name)


def series_of(kind: str, name: str) -> str:
    """The series of a delivery: seed and scale, with which the name of a generated one begins; else its kind."""
    return ",".join(name.removeprefix(f"{SYNTHETIC}:").split(",")[:2]) if kind == SYNTHETIC else kind


def _sources(connection: sa.Connection, domain: str) -> list[_Source]:
    """Where captures came from, the last one last."""
    last = sa.func.max(DELIVERIES.c.fetched_at)
    select = sa.select(DELIVERIES.c.source_kind, DELIVERIES.c.source_name).where(
        DELIVERIES.c.domain == domain, DELIVERIES.c.capture_id.is_not(None)
    )
    grouped = select.group_by(DELIVERIES.c.source_kind, DELIVERIES.c.source_name).order_by(last)
    return [_Source(*row) for row in connection.execute(grouped)]

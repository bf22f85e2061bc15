"""What there is to run and to read, from the definitions, so that it cannot disagree with them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.automation.pipelines import pipelines_of
from market_spine.feeds import load_feeds


@dataclass(frozen=True, slots=True)
class Entry:
    """A table, view, macro or pipeline. Grain, version and stage are a table's."""

    kind: str
    name: str
    grain: str | None
    version: str | None
    stage: str | None
    description: str
    is_alias: bool = False  # a table's longer name


def entries() -> list[Entry]:
    """Everything, feed by feed: tables in the order of the stages, views, pipelines."""
    found: list[Entry] = []
    for feed in load_feeds():
        versions = {step.table_name: step.calculation.version for step in steps_of(feed).values()}
        for name, one in tables_of(feed).items():
            grain, version = ", ".join(one.grain), versions.get(name, "1.0")
            found.append(Entry("table", name, grain, version, one.stage.value, one.description))
        for extra in views_of(feed):
            kind = "macro" if extra.is_macro else "view"
            found.append(Entry(kind, extra.name, None, None, None, extra.description, extra.is_alias))
        for pipeline in pipelines_of(feed).values():
            found.append(Entry("pipeline", pipeline.name, None, None, None, pipeline.description))
    return found


def dedented(sql: str) -> str:
    """SQL as it stands in a module, without the module's indent."""
    return inspect.cleandoc("\n" + sql)

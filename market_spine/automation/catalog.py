"""What there is to run and to read, from the definitions, so that it cannot disagree with them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.automation.pipelines import pipelines_of
from market_spine.feeds import load_feeds

ALIAS = "another name of"


@dataclass(frozen=True, slots=True)
class Entry:
    """A table, view, macro or pipeline. Grain, version and stage are a table's; a view is told by what it reads."""

    kind: str
    name: str
    grain: str | None
    version: str | None
    stage: str | None
    description: str

    @property
    def is_alias(self) -> bool:
        """Whether it is a table's longer name."""
        return self.kind == "view" and self.description.startswith(ALIAS)


def entries() -> list[Entry]:
    """Everything, feed by feed: tables in the order of the stages, views, pipelines."""
    found: list[Entry] = []
    for feed in load_feeds():
        versions = {step.table_name: step.calculation.version for step in steps_of(feed).values()}
        for name, one in tables_of(feed).items():
            grain, version = ", ".join(one.grain), versions.get(name, "1.0")
            found.append(Entry("table", name, grain, version, one.stage.value, one.description))
        for extra in views_of(feed):
            is_macro = "MACRO" in extra.sql
            told = f"macro {extra.sql.partition(' MACRO ')[2].partition(' AS ')[0]}" if is_macro else _of(extra.sql)
            found.append(Entry("view", extra.name, None, None, None, told))
        for pipeline in pipelines_of(feed).values():
            found.append(Entry("pipeline", pipeline.name, None, None, None, pipeline.description))
    return found


def _of(sql: str) -> str:
    """The tables that a view reads."""
    words = sql.replace("\n", " ").split()
    names = [words[place + 1] for place, word in enumerate(words[:-1]) if word in ("FROM", "JOIN")]
    is_alias = sql.partition(" AS ")[2].split() == ["SELECT", "*", "FROM", *names]
    return f"{ALIAS if is_alias else 'over'} {', '.join(dict.fromkeys(names))}"


def dedented(sql: str) -> str:
    """SQL as it stands in a module, without the module's indent."""
    return inspect.cleandoc("\n" + sql)

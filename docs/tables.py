"""Writes docs/tables.md from the declarations: ``python docs/tables.py [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path

from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.domain.contracts import Feed
from market_spine.feeds import load_feeds

TARGET = Path(__file__).with_name("tables.md")

HEAD = """# Tables

Made by `python docs/tables.py` from the declarations; a test fails when it is stale. Beside its own columns every row
carries `capture_id`, `captured_at` (when it became known), `computed_at`, `calc_version`, `revision`, `execution_id`
(the Dagster run) and `batch_id` (the write). Every table `t` also has `t_asof(ts)`, `t_first_release()` and
`t_revisions()`.
"""


def text_of(feed: Feed) -> str:
    """The page of one feed."""
    steps = {step.table_name: step for step in steps_of(feed).values()}
    parts = [f"\n## {feed.title} (`{feed.domain}`)\n"]
    for name, table in tables_of(feed).items():
        step = steps.get(name)
        parts.append(f"\n### {name}\n\n{table.description}\n\nStage {table.stage}; grain ({', '.join(table.grain)})")
        if step:
            spec = step.calculation.spec()
            inputs = ", ".join(f"`{entry.sql_name}`" for entry, _ in step.inputs.values())
            parts.append(f"; version {spec.version}; from {inputs}; rows: {spec.expected_row_count}")
            if spec.weeks_required > 1:
                parts.append(f"; over {spec.weeks_required} consecutive weeks")
        parts.append(".\n\n| column | type | meaning |\n| --- | --- | --- |\n")
        parts += [
            f"| `{one.name}` | {one.type}{', may be NULL' if one.nullable else ''} | {one.description} |\n"
            for one in table.columns
        ]
        if step and step.calculation.invariants:
            parts.append("\nHeld to:\n\n")
            parts += [f"* `{law.name}` ({law.severity}): {law.description}\n" for law in step.calculation.invariants]
    parts.append("\n### Views and macros\n\n")
    parts += [f"* `{view.name}`: {view.description}\n" for view in views_of(feed)]
    return "".join(parts)


def main() -> int:
    """Write the page, or with --check only say whether it is current."""
    page = HEAD + "".join(text_of(feed) for feed in load_feeds())
    if "--check" in sys.argv:
        return int(not TARGET.exists() or TARGET.read_text(encoding="utf-8") != page)
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

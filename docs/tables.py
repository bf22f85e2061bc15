"""Writes docs/tables.md from the declarations: ``python docs/tables.py [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path

from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.domain.contracts import Feed
from market_spine.domain.normalization import EXACT_DUPLICATE
from market_spine.feeds import load_feeds
from market_spine.sources.parse import reject_reasons
from market_spine.store.schema import TABLES

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


# What a row of each control table is.
CONTROL = {
    "core_batches": "One write: everything that a step had recorded at once.",
    "core_manifest": "One capture. `is_current` marks the one that answers questions about now; `status` is "
    "`complete`, or `overwritten` where a policy took it out of the history.",
    "core_capture_inputs": "One capture that another was made from.",
    "core_deliveries": "One delivery: where from, how its week was found, what became of it (`action`).",
    "core_rejects": "One line or row that was set aside: where it stood, why, its text. `scope` says from what: `ROW` "
    "from everything, `SYMBOL_METRICS` only from measures by symbol.",
    "core_quality": "One check of one partition in one write: `status` is `passed` or `failed`.",
    "core_calc_dependencies": "One edge of the asset graph: a table and one that it is calculated from.",
}


def control_text() -> str:
    """The control tables, which say what is known of captures."""
    parts = [
        "\n## Control tables\n\nFor `spine sql` and in the published file. Beside them the view "
        "`core_stage_completions`: tables complete per domain, week, tier and stage.\n"
    ]
    for table in TABLES:
        columns = ", ".join(f"`{column.name}`" for column in table.c)
        parts.append(f"\n* `{table.name}`: {CONTROL[table.name]} Columns: {columns}.\n")
    parts.append("\nReasons for which a line is set aside when it is read (`reason_code`):\n\n")
    parts += [f"* `{code}`: {meaning}\n" for code, meaning in reject_reasons.items()]
    for feed in load_feeds():
        parts.append(f"\nAnd when the rows of `{feed.name}` are normalised:\n\n")
        rules = (*feed.rules, EXACT_DUPLICATE)
        parts += [f"* `{rule.code}` ({rule.severity}): {rule.description}\n" for rule in rules]
    return "".join(parts)


def main() -> int:
    """Write the page, or with --check only say whether it is current."""
    page = HEAD + "".join(text_of(feed) for feed in load_feeds()) + control_text()
    if "--check" in sys.argv:
        return int(not TARGET.exists() or TARGET.read_text(encoding="utf-8") != page)
    TARGET.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

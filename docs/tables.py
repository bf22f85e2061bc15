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
from market_spine.store.columns import shown
from market_spine.store.publish import CORE_VIEWS
from market_spine.store.schema import TABLES

TARGET = Path(__file__).with_name("tables.md")

HEAD = """# Tables

Made by `python docs/tables.py` from the declarations; a test fails when it is stale. Beside its own columns every row
carries `capture_id`, `captured_at` (when it became known), `computed_at`, `calc_version`, `revision`, `execution_id`
(the Dagster run) and `batch_id` (the write). Every table `t` also has `t_asof(ts)`, `t_first_release()` and
`t_revisions()`; every table of a feed has `t_ready(use_case)`, the rows that certificates in force are about, and
`t_annotated`, every latest row with the open findings of its week and tier ([readiness.md](readiness.md)).
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
    of_every_table = {f"{name}{suffix}" for name in tables_of(feed) for suffix in ("_ready", "_annotated")}
    parts += [f"* `{view.name}`: {view.description}\n" for view in views_of(feed) if view.name not in of_every_table]
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
    "core_anomalies": "One thing that is or was wrong: open until `resolved_at`. `cause_id` is the anomaly that "
    "explains it, `fingerprint` what makes two findings one.",
    "core_anomaly_log": "One thing that happened to an anomaly (`change`), by whom, and how it stood then.",
    "core_certificates": "One certificate: `document` is what was signed, `certificate_id` its sha256.",
    "core_certificate_log": "One link of the chain: a certificate was issued or superseded, when, by whom and why. "
    "`entry_hash` is over the link and the `previous_hash`.",
    "core_data_readiness": "The verdict on one week and use that holds: state, five criteria, what stands against it "
    "(`blocking_issues`), and the certificate in force.",
    "core_readiness_log": "One verdict that was recorded; never changed.",
    "core_events": "One thing that happened, for who listens: told once, in the transaction that made it. "
    "`causation_id` is the event that led to it, `correlation_id` the business process.",
    "core_calendar_vintages": "One build of the trading calendar, with its corrections (`document`); the newest holds.",
    "core_work_items": "One asked-for load of one partition: where it stands (`state`), how often it was tried, and "
    "why it waits. At most one is open per domain, pipeline and partition; `generation` counts them.",
    "core_work_log": "One change of a work item's state, by whom and why; never changed.",
    "core_executions": "One Dagster run that is over, kept beyond Dagster's own memory.",
    "core_quality_scores": "The quality of one week and tier: four components in 0..1, their weighted mean and grade.",
    "core_subscriptions": "Who is told of what, over which channel.",
    "core_notices": "One thing that people are told of, once for all findings of one root cause.",
    "core_notice_receipts": "One notice on its way to one subscriber: sent, waiting, failed or suppressed.",
    "core_tokens": "One token of the API: whose it is, what it may, until when. What it is compared with is not shown.",
    "core_data_versions": "One capture of one set that was used together.",
    "core_consumption": "One use of the data: who, when, through which door, what was asked, and which captures "
    "(`data_version`) answered. `status` is HTTP's: 304 says that the copy which the user has is still right.",
    "core_calc_dependencies": "One edge of the asset graph: a table and one that it is calculated from.",
    "core_expected_schedules": "One expectation, as the feed's schedules.yaml declares it.",
    "core_heartbeats": "When something that repeats was last through, and with what. No history.",
}


def control_text() -> str:
    """The control tables, which say what is known of captures."""
    parts = ["\n## Control tables\n\nFor `spine sql` and in the published file.\n"]
    for table in TABLES:
        columns = ", ".join(f"`{column.name}`" for column in shown(table))
        parts.append(f"\n* `{table.name}`: {CONTROL[table.name]} Columns: {columns}.\n")
    parts.append("\nViews of them:\n\n")
    parts += [f"* `{view.name}`: {view.description}\n" for view in CORE_VIEWS]
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

"""The alert rules and the dashboard of deploy/: by their own tools, and against the numbers that there really are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from market_spine.assets.expected import schedule_of
from market_spine.assets.tables import tables_of
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance.metrics import Family, Kind, Watch, snapshot
from market_spine.store.store import Store
from market_spine_tests.governance.clinic import utc

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES, CASES = (DEPLOY / "prometheus" / f"market_spine.rules{kind}.yml" for kind in ("", ".test"))
RUNBOOK = DEPLOY.parent / "docs" / "operations.md"
DASHBOARD = DEPLOY / "grafana" / "market_spine.json"
PROMTOOL = shutil.which("promtool") or ""
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is in Debian's package prometheus")
# What the documents print: name, expression, how long, severity (features F243 to F250).
DOCUMENTED = {
    ("MissingFINRAPartitions", "market_spine_partition_gaps > 0", "6h", "warning"),
    ("WorkStuckInFailed", "market_spine_failed_work >= 3", "1h", "critical"),
    ("MissingWeekTier1", 'otc_missing_week_overdue_seconds{tier="NMS_TIER_1"} > 3 * 86400', "0s", "warning"),
    ("MissingWeekTier1", 'otc_missing_week_overdue_seconds{tier="NMS_TIER_1"} > 7 * 86400', "0s", "critical"),
    ("QualityScoreLow", "otc_quality_score < 0.7", "15m", "warning"),
    ("QualityScoreLow", "otc_quality_score < 0.5", "15m", "critical"),
    ("RecordsPerWeekLow", "otc_latest_week_records < 0.5 * otc_usual_week_records", "15m", "warning"),
    ("PipelineStalled", "market_spine_oldest_running_work_seconds > 2 * 3600", "0s", "warning"),
    ("IngestionLagHigh", "otc_ingestion_lag_days > 7", "15m", "critical"),
}
# What PromQL has of its own, in what is written here.
WORDS = {"absent", "and", "on", "or", "time", "increase", "histogram_quantile", "max", "label_values"}
LEGEND = re.compile(r"\{\{(\w+)\}\}")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text()))


def targets() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of every query of the dashboard."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"], target["legendFormat"]


def promtool(*words: str) -> tuple[int, str]:
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def metrics_in(expression: str) -> set[str]:
    """The names of an expression that are neither PromQL's own nor a label's."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"|\bon *\([^)]*\)", " ", expression)
    return set(re.findall(r"\b[a-z_][a-z0-9_:]*\b", bare)) - WORDS


def labels_in(expression: str) -> set[str]:
    """The labels that an expression selects by."""
    return {name for part in re.findall(r"\{([^}]*)\}", expression) for name in re.findall(r"(\w+)\s*=", part)}


def names_of(family: Family) -> list[str]:
    """The names under which Prometheus stores a family."""
    if family.kind is Kind.HISTOGRAM:
        return [f"{family.name}_{end}" for end in ("bucket", "sum", "count")]
    if family.kind is Kind.COUNTER:
        return [f"{family.name.removesuffix('_total')}_total"]
    return [family.name, *([family.stamp] if family.stamp else [])]


@pytest.fixture(scope="module")
def exposed(demo_home: Path) -> dict[str, set[str]]:
    """Every name that is exposed of a store with data, and its labels."""
    watch = Watch(FEED, schedule_of(FEED), tables_of(FEED))
    families = snapshot(Store.at(demo_home), [watch], utc("2025-12-19 15:00")).families
    return {name: {*family.labels} for family in families for name in names_of(family)}


def test_the_documents_alerts_are_there() -> None:
    """Prevents a threshold, a duration or a severity that is not the documents'."""
    found = {(one["alert"], one["expr"], one.get("for", "0s"), one["labels"]["severity"]) for one in rules()}
    assert found > DOCUMENTED
    assert {"ExporterSilent", "SensorsSilent", "NoticesFailing"} < {name for name, *_ in found}


def test_every_alert_says_what_it_is_about_and_where_to_read_on() -> None:
    """Prevents an alert at night without a word of what it means or what to do."""
    sections = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    for one in rules():
        notes = one["annotations"]
        assert one["alert"] in sections
        assert set(notes) == {"summary", "description", "runbook_url"}
        assert notes["runbook_url"] == f"docs/operations.md#{one['alert'].lower()}"
        assert one["labels"]["severity"] in ("warning", "critical")
        assert 20 < len(notes["summary"]) < 110 < len(notes["summary"] + notes["description"])
    assert max(Counter((one["alert"], one["labels"]["severity"]) for one in rules()).values()) == 1


def test_alerts_are_about_what_is_exposed(exposed: dict[str, set[str]]) -> None:
    """Prevents an alert that never fires because nothing has its name or its label."""
    for one in rules():
        named = metrics_in(one["expr"])
        assert set() < named <= exposed.keys(), one["alert"]
        told = set(re.findall(r"\$labels\.(\w+)", str(one["annotations"]))) | labels_in(one["expr"])
        assert told <= set().union(*(exposed[name] for name in named)), one["alert"]


@needs_promtool
def test_promtool_accepts_the_rules_and_their_cases() -> None:
    """Prevents rules that Prometheus would refuse, and alerts that fire at another moment than they should."""
    assert promtool("check", "rules", str(RULES))[0] == 0
    code, said = promtool("test", "rules", str(CASES))
    assert code == 0, said


@needs_promtool
@pytest.mark.parametrize(("expression", "missed"), [("vector(0) > 1", "fire"), ("vector(1)", "keep quiet")])
def test_every_alert_fires_in_one_case_and_keeps_quiet_in_another(tmp_path: Path, expression: str, missed: str) -> None:
    """Prevents a rule that no case holds: where none ever fires, or each always does, a case of every alert fails."""
    altered = yaml.safe_load(RULES.read_text())
    for one in altered["groups"][0]["rules"]:
        one["expr"] = expression
        one.pop("for", None)
    (tmp_path / RULES.name).write_text(yaml.safe_dump(altered))
    shutil.copy(CASES, tmp_path)
    code, said = promtool("test", "rules", str(tmp_path / CASES.name))
    failed = set(re.findall(r"alertname: (\w+)", said))
    assert (code, failed) == (1, {one["alert"] for one in rules()}), missed
    fired = {
        (case["alertname"], alert["exp_labels"]["severity"])
        for test in yaml.safe_load(CASES.read_text())["tests"]
        for case in test["alert_rule_test"]
        for alert in case["exp_alerts"]
    }
    assert fired == {(one["alert"], one["labels"]["severity"]) for one in rules()}


def test_the_dashboard_shows_what_is_exposed(exposed: dict[str, set[str]]) -> None:
    """Prevents an empty panel: a name, a label or a legend that nothing has; and a number that is nowhere shown."""
    shown: set[str] = set()
    for title, expression, legend in targets():
        named = metrics_in(expression)
        assert set() < named <= exposed.keys(), title
        labels = set().union(*(exposed[name] for name in named))
        assert {*LEGEND.findall(legend), *labels_in(expression)} <= labels, title
        shown |= named
    assert {name for name in exposed if "timestamp" not in name} - shown <= {
        "market_spine_build_info", "otc_records_per_week_sum", "otc_records_per_week_count",
    }  # fmt: skip


@needs_promtool
def test_promtool_can_read_every_query_of_the_dashboard(tmp_path: Path) -> None:
    """Prevents a panel with an error in the place of a line."""
    queries = [
        {"record": f"panel:{number}", "expr": expression.replace("$domain", "finra.otc_transparency")}
        for number, (_, expression, _) in enumerate(targets())
    ]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": queries}]}))
    code, said = promtool("check", "rules", str(path))
    assert (code, f"{len(queries)} rules found" in said) == (0, True), said


def test_the_dashboard_can_be_imported() -> None:
    """Prevents panels that lie on each other, share an id, or name a data source of one installation."""
    board = dashboard()
    assert (board["id"], board["uid"], board["schemaVersion"], board["timezone"]) == (None, "market-spine", 39, "utc")
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource", "domain"]
    panels = board["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    cells: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))
        if panel["type"] != "row":
            assert panel["description"].endswith("."), panel["title"]
            assert {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {"${datasource}"}
            assert [one["refId"] for one in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])
    assert max(cells.values()) == 1

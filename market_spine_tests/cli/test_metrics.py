"""`spine metrics` as Prometheus meets it: the page, the file and the server over loopback."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from market_spine.automation.exposition import Exposition
from market_spine.cli.metrics import application, server_of
from market_spine.domain.errors import StoreError
from market_spine.governance.metrics import Family, Kind, Sample, Snapshot
from market_spine_tests.cli.calls import Command
from market_spine_tests.governance.clinic import utc

MAIN = "from market_spine.cli import main; main()"
PROMTOOL = shutil.which("promtool")
NOW = utc("2026-01-02 15:00")
GAPS = (Sample(('a"b\\c',), 3, NOW), Sample(("d",), 0))
ROWS = (Sample(("OTC",), 5_500, below=(0, 1, *[2] * 11)),)
SMALL = Snapshot(
    NOW,
    (
        Family("spine_gaps", "Missing.", ("domain",), GAPS, stamp="spine_gaps_at"),
        Family("spine_failures", "Failed.", (), (Sample((), 7),), Kind.COUNTER),
        Family("spine_rows", "Rows.", ("tier",), ROWS, Kind.HISTOGRAM),
    ),
)


def test_the_page_of_three_families() -> None:
    """Prevents a counter without _total, buckets that are not cumulative, unescaped labels, and a moment for a state
    that rests on nothing."""
    assert generate_latest(Exposition(SMALL)).decode() == (
        "# HELP spine_gaps Missing.\n# TYPE spine_gaps gauge\n"
        'spine_gaps{domain="a\\"b\\\\c"} 3.0\nspine_gaps{domain="d"} 0.0\n'
        "# HELP spine_gaps_at When what spine_gaps rests on was last put on record.\n# TYPE spine_gaps_at gauge\n"
        'spine_gaps_at{domain="a\\"b\\\\c"} 1.767366e+09\n'
        "# HELP spine_failures_total Failed.\n# TYPE spine_failures_total counter\nspine_failures_total 7.0\n"
        "# HELP spine_rows Rows.\n# TYPE spine_rows histogram\n"
        'spine_rows_bucket{le="1000.0",tier="OTC"} 0.0\nspine_rows_bucket{le="2500.0",tier="OTC"} 1.0\n'
        + "".join(
            f'spine_rows_bucket{{le="{limit}",tier="OTC"}} 2.0\n'
            for limit in ("5000.0", "7500.0", "10000.0", "25000.0", "50000.0", "75000.0", "100000.0", "150000.0",
                          "200000.0", "300000.0", "+Inf")
        )
        + 'spine_rows_count{tier="OTC"} 2.0\nspine_rows_sum{tier="OTC"} 5500.0\n'
    )  # fmt: skip


def test_the_numbers_of_the_demo(spine: Command) -> None:
    """Prevents a page that is not what the store holds: 6 weeks of 3 tiers, one restated, one tier two days late."""
    page = spine("metrics").out
    found = {family.name: family for family in text_string_to_metric_families(page)}

    def numbers(name: str) -> dict[Any, float]:
        return {tuple(one.labels.values()): one.value for one in found[name].samples}

    assert numbers("otc_weeks_ingested") == {("NMS_TIER_1",): 6, ("NMS_TIER_2",): 6, ("OTC",): 6}
    assert set(numbers("market_spine_open_anomalies")) == {
        ("finra.otc_transparency", one) for one in ("INFO", "WARN", "ERROR", "CRITICAL")
    }
    counts = {
        one.labels["tier"]: one.value for one in found["otc_records_per_week"].samples if one.name.endswith("_count")
    }
    assert counts == {"NMS_TIER_1": 6, "NMS_TIER_2": 6, "OTC": 7}  # the restated one is another capture
    assert {labels: numbers("otc_missing_symbols")[labels] >= 0 for labels in numbers("otc_missing_symbols")} == {
        (tier,): True for tier in ("NMS_TIER_1", "NMS_TIER_2", "OTC")
    }


def test_grades_of_the_demo_are_in_the_published_file(spine: Command) -> None:
    """Prevents a score that nobody finds: Tier 2 of 2025-11-14 came 24 hours after its deadline, 1 - 24/168."""
    answer = spine(
        "sql", "SELECT week_ending, grade, timeliness FROM otc_quality WHERE timeliness < 1", "--format", "json"
    )
    assert answer.json() == [{"week_ending": "2025-11-14", "grade": "A", "timeliness": 0.8571}]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is in Debian's package prometheus")
def test_promtool_reads_the_page(spine: Command) -> None:
    """Prevents a page that Prometheus refuses. It complains of units in names that the documents gave, and no others;
    of two units in a name, as those names have with _timestamp_seconds behind them, it looks at either by chance."""
    checked = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=spine("metrics").out, capture_output=True, text=True, check=False
    )
    said = set((checked.stdout + checked.stderr).splitlines())
    units = {"otc_ingestion_lag_days": "days", "otc_weeks_ingested_total": "weeks", "otc_weeks_missing": "weeks"}
    always = {f'{name} use base unit "seconds" instead of "{unit}"' for name, unit in units.items()}
    sometimes = {
        f'{name}_timestamp_seconds use base unit "seconds" instead of "{unit}"' for name, unit in units.items()
    }
    assert always <= said <= always | sometimes


def test_the_file_is_whole_or_not_there(spine: Command, tmp_path: Path) -> None:
    """Prevents a file that node_exporter reads half, one that it does not read, and leftovers beside it."""
    path = tmp_path / "spine.prom"
    path.write_text("old")
    assert spine("metrics", "--write", str(path), width=200).out == f"wrote {path}\n"
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# HELP market_spine_build_info")
    assert [one.name for one in tmp_path.iterdir()] == ["spine.prom"]
    for target, cause in ((tmp_path / "no" / "a.prom", "No such file"), (tmp_path / "a.txt", "reads no a.txt")):
        refused = spine("metrics", "--write", str(target), width=200)
        assert (refused.code, cause in refused.err, "next:" in refused.err) == (2, True, True)
    both = spine("metrics", "--write", str(path), "serve", width=200)
    assert (both.code, "--write and serve at once" in both.err) == (2, True)


@contextmanager
def served(read: Any) -> Iterator[str]:
    """A server on a free port of loopback."""
    with server_of(application(read), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def get(url: str, accept: str = "") -> tuple[int, str, str]:
    """Status, content type and text."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_a_scrape_over_loopback(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents half a page, a failure without its cause, and one after which every scrape fails."""
    broken: list[Exception] = []

    def read() -> Snapshot:
        if broken:
            raise broken[0]
        return SMALL

    with served(read) as url:
        assert get(f"{url}/metrics") == (
            200, "text/plain; version=0.0.4; charset=utf-8", generate_latest(Exposition(SMALL)).decode()
        )  # fmt: skip
        status, kind, page = get(f"{url}/metrics", "application/openmetrics-text; version=1.0.0")
        assert (status, kind.split(";")[0], page.endswith("# EOF\n")) == (200, "application/openmetrics-text", True)
        assert get(f"{url}/") == (404, "text/plain; charset=utf-8", "the numbers are at /metrics\n")
        broken.append(StoreError("the control database is locked", "spine doctor"))
        cause = "the control database is locked\n  next: spine doctor\n"
        assert get(f"{url}/metrics") == (500, "text/plain; charset=utf-8", cause)
        broken[0] = ZeroDivisionError("by zero")
        assert get(f"{url}/metrics")[::2] == (500, "ZeroDivisionError: by zero\n")
        broken.clear()
        assert get(f"{url}/metrics")[0] == 200
    told = capsys.readouterr().err
    assert (told.count("a scrape failed"), "GET /metrics" in told) == (2, False)


def test_a_number_that_cannot_be_read_is_a_500(demo_home: Path, tmp_path: Path) -> None:
    """Prevents a page without the family whose capture file is gone: its alert would keep quiet."""
    from market_spine.assets.expected import schedule_of
    from market_spine.assets.tables import tables_of
    from market_spine.feeds.otc import OTC
    from market_spine.governance.metrics import Watch, snapshot
    from market_spine.store.store import Store

    home = tmp_path / "home"
    shutil.copytree(demo_home, home)
    shutil.rmtree(home / "captures" / "otc_weekly_baseline")
    watch = Watch(OTC, schedule_of(OTC), tables_of(OTC))
    with served(lambda: snapshot(Store.at(home), [watch], NOW)) as url:
        status, _, cause = get(f"{url}/metrics")
    assert (status, "otc_weekly_baseline" in cause, "market_spine_" in cause) == (500, True, False)


def test_serve_until_it_is_stopped(demo_home: Path) -> None:
    """Prevents a door that does not open, or not where it says; a taken port is an error that names the option."""
    command = [sys.executable, "-c", MAIN, "--home", str(demo_home), "metrics", "serve", "--port"]
    process = subprocess.Popen([*command, "0"], stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"})
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/metrics", line)
        assert found, line
        status, _, page = get(found.group())
        assert (status, "otc_weeks_ingested_total{" in page) == (200, True)
        taken = subprocess.run([*command, found.group(1)], capture_output=True, text=True, check=False)
        assert (taken.returncode, "Address already in use" in taken.stderr, "--port" in taken.stderr) == (2, True, True)
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=20)
    assert (process.returncode, rest) == (0, "stopped\n")

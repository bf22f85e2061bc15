"""`spine captures impact` over the demo, whose restated week has 3 rows with 100 shares more, and one symbol less."""

from __future__ import annotations

import pytest

from market_spine_tests.cli.calls import Command

RESTATED = ("--week-ending", "2025-11-07", "--tier", "OTC")
IMPACT = ("captures", "impact")


def test_the_demo_tells_what_was_restated(spine: Command) -> None:
    """Prevents numbers that differ from those of `captures diff`, and lines wider than the screen."""
    told = spine(*IMPACT, "otc_raw", *RESTATED)
    assert (told.code, told.err) == (0, "")
    assert "0 symbols added, 1 removed, 3 changed" in " ".join(told.out.split())
    assert "rows: 0 added, 1 removed, 3 changed, 256 unchanged" in told.out
    assert "0 added, 1 removed, 3 changed, 256 unchanged" in spine("captures", "diff", "otc_raw", *RESTATED).out
    assert [line for line in told.out.splitlines() if len(line) > 80] == []
    for table in ("otc_symbol_volume_per_day_6w", "otc_weekly_baseline", "otc_symbol_rolling_6w"):
        assert f"{table:<28}  OTC 2025-11-07 .. 2025-11-14 (2)" in told.out


def test_every_way_to_name_it_gives_the_same(spine: Command) -> None:
    """Prevents an id on the screen that the command does not take, and a short name that means something else."""
    (held,) = spine("captures", "list", "otc_raw", *RESTATED, "-f", "json").json()
    ways = [(held["capture_id"],), (held["id"],), ("raw", *RESTATED), ("otc/raw", *RESTATED)]
    told = [spine(*IMPACT, *way, "-f", "json").json() for way in ways]
    assert all(one == told[0] for one in told)
    (capture,) = [row for row in told[0] if row["kind"] == "capture"]
    assert (capture["name"], capture["after"], capture["week_ending"]) == ("otc_raw", held["capture_id"], "2025-11-07")
    assert capture["before"] < capture["after"]


def test_the_demo_has_it_on_record(spine: Command) -> None:
    """Prevents a restatement of which only who asks for it learns: every run that publishes judges its weeks."""
    rows = spine("anomalies", "list", "--severity", "INFO", *RESTATED, "-f", "json").json()
    (told,) = [row["message"] for row in rows if row["code"] == "RESTATED"]
    assert told in " ".join(spine(*IMPACT, "otc_raw", *RESTATED).out.split())


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("otc_raw",), "which partition of otc_raw?"),
        (("otc_raw", "-w", "2025-11-07"), "which partition of otc_raw?"),
        (("otc_raw", "-w", "2024-01-05", "-t", "OTC"), "otc_raw of 2024-01-05 has no capture"),
        (("otc_raw", "-w", "2025-10-10", "-t", "OTC"), "no capture before it has other content"),
        (("symbol_hhi",), "otc_symbol_hhi is made from what was delivered: only that is restated"),
        (("otc_record_hash",), "otc_record_hash is a view over the latest captures"),
        (("zzzzzz",), "there is neither a capture nor a table 'zzzzzz'"),
    ],
)
def test_refusals(spine: Command, words: tuple[str, ...], cause: str) -> None:
    """Prevents an answer to another question than the one that was asked."""
    answer = spine(*IMPACT, *words)
    assert (answer.code, answer.out) == (2, "")
    assert cause in answer.err
    assert "next: " in answer.err


def test_a_capture_that_was_made_or_came_first_is_refused(spine: Command) -> None:
    """Prevents a comparison of a measure with itself, and of a first release with nothing."""
    (hhi,) = spine("captures", "list", "symbol_hhi", *RESTATED, "-f", "json").json()
    first, _ = spine("captures", "list", "otc_raw", *RESTATED, "--all", "-f", "json").json()
    made, original = spine(*IMPACT, hhi["id"]), spine(*IMPACT, first["id"])
    assert (made.code, "only that is restated" in made.err) == (2, True)
    assert (original.code, "revision 1: no capture before it has other content" in original.err) == (2, True)

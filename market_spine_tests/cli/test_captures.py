"""Versions, rejects, deliveries and the catalog as people see them."""

from __future__ import annotations

import pytest

from market_spine_tests.cli.calls import Command, call

RESTATED = ("--week-ending", "2025-11-07", "--tier", "OTC")


def test_list_shows_current_and_all(spine: Command) -> None:
    """Prevents superseded revisions from being shown unasked, or never."""
    current = spine("captures", "list", "otc_raw", *RESTATED, "-f", "json").json()
    every = spine("captures", "list", "otc_raw", *RESTATED, "--all", "-f", "json").json()
    assert [(one["revision"], one["state"], one["rows"]) for one in current] == [(2, "current", 259)]
    assert [(one["revision"], one["state"], one["rows"]) for one in every] == [
        (1, "superseded", 260),
        (2, "current", 259),
    ]
    # 6 weeks x (10 tables by tier x 3 tiers + tier_split + calendar)
    assert len(spine("captures", "list", "-f", "csv").csv()) == 6 * (12 * 3 + 2)


@pytest.mark.parametrize(
    ("tiers", "captures"), [(("ALL",), 6 * 2), (("all", "ALL"), 6 * 2), (("OTC",), 6 * 12), (("ALL", "T1"), 6 * 14)]
)
def test_what_a_list_shows_as_tier_can_be_asked_for(spine: Command, tiers: tuple[str, ...], captures: int) -> None:
    """ALL on the screen, and refused when typed."""
    asked = [word for tier in tiers for word in ("--tier", tier)]
    assert len(spine("captures", "list", *asked, "-f", "csv").csv()) == captures
    assert spine("anomalies", "list", *asked, "--all").code == 0


def test_show_by_id_short_id_and_place(spine: Command) -> None:
    """Prevents an id on the screen that no command understands."""
    (held,) = spine("captures", "list", "otc_raw", *RESTATED, "-f", "json").json()
    ways = [(held["capture_id"],), (held["id"],), (held["id"][:6],), ("otc_raw", *RESTATED)]
    shown = [spine("captures", "show", *way, "-f", "json").json() for way in ways]
    assert all(one == shown[0] for one in shown)
    assert shown[0][0]["week_source"] == "request"
    assert shown[0][0]["landing_id"]
    table = spine("captures", "show", held["id"]).out
    assert held["capture_id"] in table
    assert "landed bytes only" in table


def test_show_names_inputs_and_checks(spine: Command) -> None:
    """Prevents a derived capture whose making cannot be followed."""
    out = spine("captures", "show", "venue_volume", *RESTATED).out
    assert "otc_raw  2025-11-07   OTC          2  2025-12-19 15:00:00Z" in out
    assert "unique_grain" in out


def test_diff_tells_what_the_restatement_did(spine: Command) -> None:
    """Prevents a restatement whose effect cannot be seen: 3 rows get 100 shares and a trade, one symbol goes."""
    changes = spine("captures", "diff", "otc_raw", *RESTATED, "-f", "json").json()
    changed = [one for one in changes if one["change"] == "changed"]
    assert (
        sorted((one["column"], one["delta"]) for one in changed)
        == [("total_shares", 100)] * 3 + [("total_trades", 1)] * 3
    )
    assert all(one["after"] - one["before"] == one["delta"] for one in changed)
    removed = [one for one in changes if one["change"] == "removed"]
    assert {one["after"] for one in removed} == {None}
    table = spine("captures", "diff", "otc_raw", *RESTATED).out
    assert "0 added, 1 removed, 3 changed, 256 unchanged" in table


def test_diff_by_ids_defaults_to_the_current_capture(spine: Command) -> None:
    """Prevents A and B from being exchanged."""
    old, new = spine("captures", "list", "symbol_summary", *RESTATED, "--all", "-f", "json").json()
    forward = spine("captures", "diff", old["id"], new["id"], "-f", "json").json()
    assert forward == spine("captures", "diff", old["id"], "-f", "json").json()
    assert forward == spine("captures", "diff", "symbol_summary", *RESTATED, "-f", "json").json()
    backward = spine("captures", "diff", new["id"], old["id"], "-f", "json").json()
    assert {one["change"] for one in forward} == {"changed", "removed"}
    assert {one["change"] for one in backward} == {"changed", "added"}
    assert spine("captures", "diff", new["id"], new["id"], "-f", "json").json() == []


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("captures", "show", "zzzzzz"), "there is neither a capture nor a table 'zzzzzz'"),
        (("captures", "diff", "otc_symbol_hi"), "nearest: otc_symbol_hhi"),
        (("captures", "show", "otc_raw"), "which partition of otc_raw?"),
        (("captures", "show", "otc_raw", "-w", "2024-01-05", "-t", "OTC"), "has no capture"),
        (("captures", "diff", "otc_raw", "-w", "2025-11-07"), "which partition of otc_raw?"),
        (("captures", "diff", "otc_raw", "-w", "2025-10-10", "-t", "OTC"), "has 1 revision: nothing to compare"),
        (("captures", "diff", "otc_record_hash", *RESTATED), "has no captures of its own"),
        (("captures", "list", "otc_rw"), "there is no table 'otc_rw'"),
        (("rejects", "otc_rw"), "there is no table 'otc_rw'"),
        (("catalog", "otc_rw"), "there is no table 'otc_rw'"),
    ],
)
def test_refusals(spine: Command, words: tuple[str, ...], cause: str) -> None:
    """Prevents a guess where a question is incomplete."""
    answer = spine(*words)
    assert (answer.code, answer.out) == (2, "")
    assert cause in answer.err
    assert "next: " in answer.err


def test_captures_of_two_tables_are_not_compared(spine: Command) -> None:
    """Prevents a difference between things that have no rows in common."""
    ids = [spine("captures", "list", one, *RESTATED, "-f", "json").json()[0]["id"] for one in ("raw", "venue_volume")]
    answer = spine("captures", "diff", *ids)
    assert (answer.code, "have no rows in common" in answer.err) == (2, True)


def test_rejects_keep_line_and_text(spine: Command) -> None:
    """Prevents a rejected line from being counted only."""
    (found,) = spine("rejects", "--tier", "OTC", "--code", "field_count", "-f", "json").json()
    assert (found["week_ending"], found["reason"], found["table"]) == ("2025-10-31", "FIELD_COUNT", "otc_raw")
    assert found["raw_text"].startswith("OTC|")
    assert found["raw_text"] in " ".join(spine("rejects", width=200).out.split())
    assert spine("rejects", "-w", "2025-11-07", "-f", "json").json() == []


def test_deliveries_tell_how_the_week_was_found(spine: Command) -> None:
    """Prevents a week that was derived from passing for one that was named."""
    found = spine("deliveries", *RESTATED, "-f", "json").json()
    assert [(one["action"], one["week found by"]) for one in found] == [("updated", "request"), ("inserted", "request")]
    assert {one["source_name"].partition(":")[0] for one in found} == {"synthetic"}


def test_the_catalog_has_everything(spine: Command) -> None:
    """Prevents a table that can be read and is listed nowhere."""
    entries = call("catalog", "-f", "json").json()
    names = {entry["name"] for entry in entries}
    shown = {row["name"] for row in spine("sql", "SHOW TABLES", "-f", "json").json()}
    assert {name for name in shown if not name.startswith("core_")} <= names
    assert {"finra.otc_transparency.weekly_refresh", "otc_top_venues"} <= names
    assert {entry["grain"] for entry in entries if entry["name"] == "otc_symbol_hhi"} == {"week_ending, tier, symbol"}


def test_the_catalog_of_one_table() -> None:
    """Prevents columns without meaning, and numbers without their origin."""
    columns = {one["column"]: one for one in call("catalog", "symbol_hhi", "-f", "json").json()}
    assert columns["hhi"]["type"] == "DOUBLE"
    assert columns["hhi"]["from"] == "symbol_venue_share.total_shares"
    out = call("catalog", "symbol_hhi", width=120).out
    assert "grain    week_ending, tier, symbol" in out
    assert "SELECT" in out
    assert "CREATE OR REPLACE VIEW" in call("catalog", "otc_record_hash").out
    assert call("catalog", "otc_record_hash", "-f", "json").json()[0]["name"] == "otc_record_hash"

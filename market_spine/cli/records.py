"""`spine rejects` and `spine deliveries`: what was set aside and why, and what arrived and how its week was found."""

from __future__ import annotations

from typing import Annotated

import typer

from market_spine.cli.options import LimitOption, TierOption, WeekOption, shown_tiers, week_of
from market_spine.cli.output import Format, FormatOption, Listing, limited
from market_spine.cli.state import State

SHOWN_TO_PROGRAMS = frozenset({"rejected_at", "source_id", "landing_id", "part_no", "source_name"})
WRAPPED = frozenset({"detail", "raw_text", "reason"})


def rejects(
    ctx: typer.Context,
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="otc_raw or otc_venue_volume; else both.")
    ] = None,
    week: WeekOption = None,
    tier: TierOption = None,
    code: Annotated[str | None, typer.Option("--code", metavar="CODE", help="One reason, e.g. BLANK_SYMBOL.")] = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List lines that were set aside: where they stood, why, and their raw text.

    Example: spine rejects --week-ending 2025-10-31 --tier OTC
    """
    from market_spine.assets.names import captured
    from market_spine.cli.queries import REJECTS

    name = captured(table)[0].sql_name if table else None
    wanted: dict[str, object] = {"table_name": name, "reason_code": code.upper() if code else None}
    _list(ctx.obj, REJECTS, wanted, week, tier, limit, form, "no rejects")


def deliveries(
    ctx: typer.Context,
    week: WeekOption = None,
    tier: TierOption = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what arrived: from where, how its week was found, and what became of it.

    Example: spine deliveries --tier OTC
    """
    from market_spine.cli.queries import DELIVERIES

    _list(ctx.obj, DELIVERIES, {}, week, tier, limit, form, "no deliveries")


def _list(
    state: State,
    sql: str,
    wanted: dict[str, object],
    week: str | None,
    tier: list[str] | None,
    limit: int | None,
    form: Format,
    empty: str,
) -> None:
    from market_spine.cli.queries import listed
    from market_spine.cli.state import control_tables, open_store, settings_of

    bounds = wanted | {"week_ending": week_of(week), "tier": shown_tiers(tier)}
    with control_tables(open_store(settings_of(state))) as engine:
        columns, rows = listed(engine, sql, **bounds)
    limited(Listing(columns, rows, wrapped=WRAPPED, extra=SHOWN_TO_PROGRAMS, empty=empty), form, limit)

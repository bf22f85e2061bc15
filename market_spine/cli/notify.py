"""`spine notify`: who is told of what over which channel, what was told, and what became of it.

The daemon tells (the notification sensor); here subscriptions are made, channels tried, notices acknowledged.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.door import NOT_SATISFIED
from market_spine.cli.options import ActorOption, LimitOption, actor_of, span_of
from market_spine.cli.output import Format, FormatOption, Listing, code, escaped, limited, many, say, show
from market_spine.cli.output import note as remark
from market_spine.domain.contracts import Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.operations import Mode, ReceiptState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from market_spine.automation.channels import Channels
    from market_spine.store.store import Store

app = typer.Typer(
    name="notify", no_args_is_help=True, help="Who is told of what: subscribe, test, snooze, acknowledge, see receipts."
)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The subscription.")]
AllOption = Annotated[bool, typer.Option("--all", help="Also what is over.")]
SUBSCRIPTION = ["name", "channel", "min_severity", "domain", "ready_for", "mode", "state", "snoozed_until"]
MORE = ["id", "actor", "created_at", "updated_at"]
NOTICE = ["id", "state", "severity", "kind", "title", "told", "last_at"]
NOTICE_MORE = ["domain", "week_ending", "tier", "ready_for", "first_at", "anomaly_id", "work_item_id", "actor", "note"]
NOTICE_MORE += ["body", "dedupe_key"]
RECEIPT_COLUMNS = ["id", "subscription", "channel", "event", "state", "attempt_count", "sent_at", "next_attempt_at"]
RECEIPT_COLUMNS += ["last_error", "title", "body", "created_at"]
RECEIPT = ["id", "notice", "subscription", "channel", "event", "state", "attempts", "at", "title", "last_error"]
RECEIPT_MORE = ["created_at", "sent_at", "next_attempt_at", "body"]


@app.command()
def subscribe(
    ctx: typer.Context,
    name: NameArgument,
    channel: Annotated[str, typer.Option("--channel", metavar="CHANNEL", help="A name in channels.yaml.")],
    severity: Annotated[Severity, typer.Option("--severity", help="This one and graver ones.")] = Severity.WARN,
    domain: Annotated[str | None, typer.Option("--domain", help="A feed, e.g. otc; all if unset.")] = None,
    ready_for: Annotated[
        str | None, typer.Option("--ready-for", metavar="USE_CASE", help="Only what concerns this use; all if unset.")
    ] = None,
    mode: Annotated[Mode, typer.Option("--mode", help="At once, or one digest a day.")] = Mode.IMMEDIATE,
    actor: ActorOption = None,
) -> None:
    """Tell somebody from now on: one message for each root cause, and one when it is over.

    INFO also tells when a week becomes ready. Addresses are in channels.yaml of the home, see docs/notifications.md.

    Example: spine notify subscribe desk --channel desk --severity ERROR
    """
    from market_spine.assets.scope import scope_of
    from market_spine.automation.request import feed_of
    from market_spine.cli.state import feeds, written_now
    from market_spine.governance import subscriptions

    store = _store(ctx)
    _channels(ctx, store).find(channel)
    chosen = [feed_of(feeds(), domain)] if domain else feeds()
    if ready_for:
        for feed in chosen:
            scope_of(feed).use_case(ready_for)
    wish = subscriptions.Wish(name, channel, severity, chosen[0].domain if domain else "", ready_for or "", mode)
    subscriptions.subscribe(store, written_now(), wish, actor_of(actor))
    when = "a digest every morning" if mode is Mode.DIGEST else "at once"
    say(f"subscribed {name}: {severity} and graver over {channel}, {when}")
    code(f"next: spine notify test {channel}")


@app.command()
def unsubscribe(ctx: typer.Context, name: NameArgument, actor: ActorOption = None) -> None:
    """End a subscription; what is on its way to it is not sent.

    Example: spine notify unsubscribe desk
    """
    from market_spine.cli.state import written_now
    from market_spine.governance import subscriptions

    subscriptions.unsubscribe(_store(ctx), written_now(), name, actor_of(actor))
    say(f"unsubscribed {escaped(name)}")


@app.command("list")
def list_(ctx: typer.Context, every: AllOption = False, form: FormatOption = Format.TABLE) -> None:
    """List subscriptions: who is told of what, over which channel.

    Example: spine notify list
    """
    from market_spine.store import notices

    with _store(ctx).control.read() as connection:
        rows = notices.subscriptions(connection, active_only=not every)
    named = [row | {"state": "active" if row["is_active"] else "ended"} for row in rows]
    for row in named if form is Format.TABLE else []:
        row |= {one: row[one] or "all" for one in ("domain", "ready_for")}
    headers = {"min_severity": "from"}
    empty = "nobody has subscribed: spine notify subscribe NAME --channel CHANNEL"
    show(Listing([*SUBSCRIPTION, *MORE], _values(named, SUBSCRIPTION + MORE), "", extra=frozenset(MORE), empty=empty,
                 headers=headers, spare=frozenset({"domain"}), upright=False), form)  # fmt: skip


@app.command("notices")
def notices_(
    ctx: typer.Context, every: AllOption = False, limit: LimitOption = None, form: FormatOption = Format.TABLE
) -> None:
    """List what somebody was told of and what still holds, the newest last.

    Example: spine notify notices --all
    """
    from market_spine.store import notices

    with _store(ctx).control.read() as connection:
        rows = notices.notices(connection, open_only=not every)
    columns = [*NOTICE, *NOTICE_MORE]
    values = _values([row | {"told": row["times_told"]} for row in rows], columns)
    listing = Listing(columns, values, "", frozenset({"title"}), frozenset(NOTICE_MORE), "nothing was told that holds")
    limited(listing, form, limit)


@app.command("show")
def show_(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The notice's number.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one notice: every time that it was told, to whom, and in which words.

    Example: spine notify show 1
    """
    from market_spine.store import notices

    with _store(ctx).control.read() as connection:
        row = notices.notice(connection, number)
        tellings = [one for one in notices.receipts(connection) if one["notice_id"] == number]
    if row is None:
        raise QueryError(f"there is no notice {number}", "see them with: spine notify notices --all")
    if form is not Format.TABLE:
        show(Listing(RECEIPT_COLUMNS, _values(tellings, RECEIPT_COLUMNS)), form)
        return
    by = f" by {row['actor']}: {row['note']}" if row["actor"] else ""
    code(f"notice {number}, {row['kind']}, {row['state']}{by}")
    texts: dict[tuple[str, str], list[str]] = {}
    for one in tellings:
        texts.setdefault((one["title"], one["body"]), []).append(f"{one['subscription']} ({one['state']})")
    for (title, body), heard in texts.items():
        code(f"\n{title}\n{body}\n-> {', '.join(heard)}")


@app.command("run")
def run_(ctx: typer.Context) -> None:
    """Draft and send what is due now, as the daemon does every 30 seconds; for where none runs.

    Exit code 1: something did not arrive, and is tried again by the next run or the daemon.

    Example: spine notify run
    """
    from market_spine.automation.notify import tell_all
    from market_spine.cli.state import feeds, settings_of, written_now
    from market_spine.settings import build_spine

    store = _store(ctx)
    spine, channels = build_spine(settings_of(ctx.obj)), _channels(ctx, store)
    failures = []
    for feed in feeds():
        drafted, found = tell_all(spine, feed, channels, written_now())
        say(f"{feed.domain}: {many(len(drafted.told), 'notice')} drafted, {many(found.sent, 'message')} sent")
        failures += found.failures
    for failure in failures:
        remark(f"[red]{escaped(failure)}[/]")
    if failures:
        raise typer.Exit(NOT_SATISFIED)


@app.command("test")
def try_(
    ctx: typer.Context,
    channel: Annotated[str | None, typer.Argument(metavar="[CHANNEL]", help="Its name; every one if unset.")] = None,
) -> None:
    """Send a test message now. A channel that works is failing no more.

    Example: spine notify test desk
    """
    from market_spine.automation.notify import try_channel
    from market_spine.cli.state import feeds, written_now
    from market_spine.domain.errors import ChannelError

    store = _store(ctx)
    channels = _channels(ctx, store)
    names = [channel] if channel else channels.names()
    if not names:
        raise ChannelError("there is no channel yet", f"put one into {channels.path}, mode 0600; docs/notifications.md")
    for name in names:
        try_channel(store, written_now(), [feed.domain for feed in feeds()], channels.find(name))
        say(f"sent over {name}")


@app.command()
def snooze(
    ctx: typer.Context,
    name: NameArgument,
    span: Annotated[str | None, typer.Option("--for", metavar="SPAN", help="30m, 4h or 2d, from now on.")] = None,
    until: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"], help="A moment (UTC)."),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="End the snooze.")] = False,
    actor: ActorOption = None,
) -> None:
    """Tell a subscriber nothing for a while. What still holds then is told when it is over.

    Example: spine notify snooze desk --for 4h
    """
    from market_spine.cli.state import written_now
    from market_spine.governance import subscriptions

    run = written_now()
    moment = None if off else _moment(span, until, run.now)
    subscriptions.snooze(_store(ctx), run, name, moment, actor_of(actor))
    say(f"{escaped(name)} is told nothing until {moment:%Y-%m-%d %H:%M UTC}" if moment else f"{escaped(name)} is awake")


def _moment(span: str | None, until: datetime | None, now: datetime) -> datetime:
    if (span is None) == (until is None):
        raise QueryError("until when?", "give one of --for 4h, --until 2025-12-20T18:00, --off")
    if until is not None:
        from datetime import UTC

        return until.replace(tzinfo=UTC)
    return now + span_of(span or "")


@app.command()
def ack(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The notice's number, from its message.")],
    note: Annotated[str, typer.Option("--note", help="What is done about it.")] = "",
    actor: ActorOption = None,
) -> None:
    """Say that somebody sees to a notice: digests do not remind of it any more. Its end is told all the same.

    Example: spine notify ack 1 --note "FINRA was asked"
    """
    from market_spine.cli.state import written_now
    from market_spine.governance.notices import acknowledge

    row = acknowledge(_store(ctx), written_now(), number, note, actor_of(actor))
    say(f"acknowledged notice {number}: {escaped(row['title'])}")


@app.command()
def receipts(
    ctx: typer.Context,
    state: Annotated[ReceiptState | None, typer.Option("--state", help="PENDING, SENT, FAILED or SUPPRESSED.")] = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what was sent to whom, the newest first, and what was not, with the reason.

    Example: spine notify receipts
    """
    from market_spine.store import notices

    with _store(ctx).control.read() as connection:
        rows = [row for row in notices.receipts(connection) if state is None or row["state"] == state]
    named = [
        row
        | {"notice": row["notice_id"], "attempts": row["attempt_count"]}
        | {"at": row["sent_at"] or row["next_attempt_at"] or row["created_at"]}
        for row in reversed(rows)
    ]
    columns = [*RECEIPT, *RECEIPT_MORE]
    listing = Listing(
        columns,
        _values(named, columns),
        wrapped=frozenset({"title", "last_error"}),
        extra=frozenset(RECEIPT_MORE),
        empty="nothing was told to anybody",
        spare=frozenset({"channel", "notice", "attempts"}),
        stacked=("title", "last_error"),
        upright=False,
    )
    limited(listing, form, limit)


@app.command()
def retry(
    ctx: typer.Context,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Receipts, from receipts.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Whatever failed.")] = False,
) -> None:
    """Send again what failed for good. The daemon does it at its next look.

    Example: spine notify retry --all
    """
    from market_spine.cli.state import written_now
    from market_spine.governance.receipts import retry as again

    if bool(numbers) == every:
        raise QueryError("which receipts?", "spine notify retry --all  # or numbers, from: spine notify receipts")
    rows = again(_store(ctx), written_now(), None if every else numbers)
    say(f"{many(len(rows), 'receipt')} to be sent again")


@app.command()
def digest(
    ctx: typer.Context, feed: Annotated[str | None, typer.Option("--feed", help="Which feed; the only one.")] = None
) -> None:
    """Print the digest as it would be sent now, of everything. Nothing is sent.

    Example: spine notify digest
    """
    from market_spine.assets.scope import scope_of
    from market_spine.automation.request import feed_of
    from market_spine.cli.state import feeds
    from market_spine.governance import digests
    from market_spine.settings import clock

    chosen = feed_of(feeds(), feed)
    with _store(ctx).control.read() as connection:
        title, body = digests.digest(connection, chosen, scope_of(chosen).use_cases, clock())
    code(f"# {title}\n\n{body}".rstrip())


def _values(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[list[Any]]:
    return [[row[name] for name in columns] for row in rows]


def _store(ctx: typer.Context) -> Store:
    from market_spine.cli.state import open_store, settings_of

    return open_store(settings_of(ctx.obj))


def _channels(ctx: typer.Context, store: Store) -> Channels:
    from market_spine.cli.state import settings_of
    from market_spine.settings import channels_of

    return channels_of(settings_of(ctx.obj), store.home)

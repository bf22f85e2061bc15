"""`spine tokens`: who may ask the API for what, until when."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.options import ActorOption, actor_of, span_of
from market_spine.cli.output import Format, FormatOption, Listing, code, escaped, note, say, show
from market_spine.domain.serving import Scope

if TYPE_CHECKING:
    from market_spine.store.store import Store

app = typer.Typer(name="tokens", no_args_is_help=True, help="Tokens of the API: create, list, revoke.")
NAME = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is: a desk, a program, a person.")]
COLUMNS = ("name", "scope", "state", "id", "created_at", "created_by", "expires_at", "revoked_at", "revoked_by")
SPARE = frozenset({"created_by", "expires_at", "revoked_at", "revoked_by"})


@app.command()
def create(
    ctx: typer.Context,
    name: NAME,
    scope: Annotated[
        Scope, typer.Option("--scope", help="read data; operate: also work and anomalies; admin: also who used what.")
    ] = Scope.READ,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="SPAN", help="In 12h, 90d, ...; never if unset.")
    ] = None,
    actor: ActorOption = None,
) -> None:
    """Make a token, and print it: this once, since only its hash is kept.

    The token alone is on stdout, for a pipe into a file or a secret store.

    Example: spine tokens create trading-desk --scope read --expires 90d
    """
    from market_spine.cli.state import written_now
    from market_spine.governance import tokens

    run = written_now()
    until = run.now + span_of(expires) if expires else None
    holder, text = tokens.create(_store(ctx), run, name, scope, until, actor_of(actor))
    note(f"token {holder.token_id} for {escaped(name)}: {scope}, {_until(until)}. It is shown this once:")
    code(text)


def _until(moment: datetime | None) -> str:
    return f"until {moment:%Y-%m-%d %H:%M} UTC" if moment else "until it is revoked"


@app.command("list")
def list_(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also revoked ones.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """List tokens: whose they are and what they may. Never the tokens themselves.

    Example: spine tokens list --all
    """
    from market_spine.settings import clock
    from market_spine.store import tokens

    with _store(ctx).control.read() as connection:
        rows = [row | {"state": _state(row, clock())} for row in tokens.listed(connection, with_revoked=every)]
    empty = "there is no token: spine tokens create NAME --scope read"
    show(Listing(COLUMNS, [[row[name] for name in COLUMNS] for row in rows], empty=empty, spare=SPARE), form)


def _state(row: dict[str, object], now: datetime) -> str:
    if row["revoked_at"]:
        return "revoked"
    expires = row["expires_at"]
    return "expired" if isinstance(expires, datetime) and expires <= now else "in force"


@app.command()
def revoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="The token's name, or its id.")],
    actor: ActorOption = None,
) -> None:
    """End a token. A server that runs refuses it within a second.

    Example: spine tokens revoke trading-desk
    """
    from market_spine.cli.state import written_now
    from market_spine.governance import tokens

    row = tokens.revoke(_store(ctx), written_now(), name, actor_of(actor))
    say(f"revoked token {row['id']} of {escaped(row['name'])}")


def _store(ctx: typer.Context) -> Store:
    from market_spine.cli.state import open_store, settings_of

    return open_store(settings_of(ctx.obj))

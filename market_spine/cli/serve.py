"""`spine serve`: the REST API on this machine.

What belongs here: from options and settings to a server. What does not: what it answers (`api`).
"""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.output import advise, note
from market_spine.domain.errors import SpineError

if TYPE_CHECKING:
    import uvicorn

    from market_spine.api.desk import Desk

PATIENCE = 10  # seconds in which answers that are on their way are finished after it was told to stop
BACKLOG = 1024  # connections that wait to be taken up


def serve(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Where to listen; others need TLS before it."),
    ] = "127.0.0.1",
) -> None:
    """Answer programs over HTTP until it is stopped: data in any version, readiness, findings, work.

    Everything but /health needs a token: spine tokens create. What it serves is described in /api/v1/openapi.json.

    Example: spine serve --port 8000
    """
    from market_spine.api.app import create_app
    from market_spine.api.problems import PREFIX
    from market_spine.store.tokens import listed

    with listening(host, port) as listener:
        desk = _desk(ctx)
        shown = f"[{host}]" if ":" in host else host
        note(f"serving http://{shown}:{listener.getsockname()[1]}{PREFIX}  (stop with Ctrl-C)")
        with desk.store.control.read() as connection:
            if not listed(connection):
                advise("spine tokens create NAME --scope read  # there is no token yet, and everything needs one")
        with suppress(KeyboardInterrupt):  # it raises the signal again when it has finished
            server_of(create_app(desk)).run(sockets=[listener])
    note("stopped")


def _desk(ctx: typer.Context) -> Desk:
    from market_spine.api.answers import Answers
    from market_spine.api.desk import Desk
    from market_spine.api.limits import Limits, rate_of
    from market_spine.cli.state import open_instance, open_store, settings_of
    from market_spine.settings import build_spine, clock

    settings = settings_of(ctx.obj)
    store = open_store(settings)
    limits = Limits(rate_of(settings.api_rate), clock)
    return Desk(build_spine(settings), limits, Answers(), lambda: open_instance(store))


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything is said of it. SpineError where the address is taken, or not here."""
    with ExitStack() as stack:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)  # who asks from now on waits until it is taken up
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or error
            raise SpineError(f"{host}:{port}: {why}", "choose another: --port, or --host") from error
        stack.pop_all()
    return listener


def server_of(app: object) -> uvicorn.Server:
    """What serves ``app``, once it is run over a socket."""
    from uvicorn import Config, Server

    config = Config(
        app,  # type: ignore[arg-type]  # an ASGI application
        log_config=None,  # requests are told by the app, as lines of the platform's own log
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever asks could put another address, or anything, into the log
        backlog=BACKLOG,
        timeout_graceful_shutdown=PATIENCE,
    )
    return Server(config)

"""`spine metrics`: the numbers of `governance.metrics` as Prometheus reads them: printed, as a file, or served.

What belongs here: their text, the file and the server. What does not: the numbers, and the alerts over them (deploy/).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.output import escaped, note, say
from market_spine.domain.errors import SpineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from market_spine.governance.metrics import Snapshot

    Reader = Callable[[], Snapshot]

app = typer.Typer(name="metrics", invoke_without_command=True)
PLAIN = ("Content-Type", "text/plain; charset=utf-8")


@app.callback()
def metrics(
    ctx: typer.Context,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="PATH.prom", help="Write a file for node_exporter's textfile collector."),
    ] = None,
) -> None:
    """Print the numbers by which the platform is watched, as Prometheus reads them; or write them to a file, whole.

    Example: spine metrics --write build/market_spine.prom
    """
    if ctx.invoked_subcommand:
        if write:
            raise SpineError("--write and serve at once", "give one of them: spine metrics --write PATH.prom")
        return
    from prometheus_client import generate_latest, write_to_textfile

    from market_spine.automation.exposition import Exposition

    snapshot = _reader(ctx)()
    if write is None:
        typer.echo(generate_latest(Exposition(snapshot)), nl=False)
        return
    if write.suffix != ".prom":
        raise SpineError(f"the textfile collector reads no {write.name}", f"spine metrics --write {write.stem}.prom")
    try:
        write_to_textfile(str(write), Exposition(snapshot))
    except OSError as error:
        raise SpineError(f"{write}: {error.strerror}", "name a folder that is there and writable") from error
    say(f"wrote {escaped(str(write))}")


@app.command()
def serve(
    ctx: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 9187,
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
) -> None:
    """Serve /metrics, read anew at each scrape, until it is stopped. A scrape that fails is a 500 with its cause.

    Example: spine metrics serve --port 9187
    """
    try:
        server = server_of(application(_reader(ctx)), host, port)
    except OSError as error:
        raise SpineError(f"{host}:{port}: {error.strerror}", "choose another: --port, or --host") from error
    with server:
        note(f"serving http://{host}:{server.server_port}/metrics")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            note("stopped")


def _reader(ctx: typer.Context) -> Reader:
    """What reads a snapshot of the store that the options name. SpineError where there is none."""
    from market_spine.assets.expected import schedule_of
    from market_spine.assets.tables import tables_of
    from market_spine.cli.state import feeds, open_store, settings_of
    from market_spine.governance.metrics import Watch, snapshot
    from market_spine.settings import clock

    store = open_store(settings_of(ctx.obj))
    watches = [Watch(feed, schedule_of(feed), tables_of(feed)) for feed in feeds()]
    return lambda: snapshot(store, watches, clock())


def application(read: Reader) -> WSGIApplication:
    """The server's side of a scrape: nothing is sent before all of it is there, so there is never half a page."""
    from prometheus_client.exposition import choose_encoder

    from market_spine.automation.exposition import Exposition

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics":
            start_response("404 Not Found", [PLAIN])
            return [b"the numbers are at /metrics\n"]
        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        try:
            page = encode(Exposition(read()))
        except Exception as error:  # noqa: BLE001 - whoever scrapes is told, and the next scrape tries again
            cause = f"{error}\n" if isinstance(error, SpineError) else f"{type(error).__name__}: {error}\n"
            note(f"[red]a scrape failed:[/] {escaped(cause.rstrip())}")
            start_response("500 Internal Server Error", [PLAIN])
            return [cause.encode()]
        start_response("200 OK", [("Content-Type", content_type)])
        return [page]

    return answer


def server_of(answer: WSGIApplication, host: str, port: int) -> Any:
    """A server of ``answer``, a thread for each scrape, so that a slow reader holds up nobody. OSError if taken."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True

    class Quiet(WSGIRequestHandler):
        """A scrape every 15 seconds is no news; what fails is told by the application."""

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
            pass

    return make_server(host, port, answer, Server, Quiet)

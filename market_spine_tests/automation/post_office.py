"""Loopback servers to which notices are sent: a webhook that fails as it is told, and a mail server.

What belongs here: taking messages, and failing by script. What does not: claims.
"""

from __future__ import annotations

import email
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from aiosmtpd.controller import Controller

from market_spine.automation.channels import Channels

SECRET = "T0p5ecret"


@dataclass
class Webhook:
    """A server that takes JSON. ``answers`` are given first, 200 then: a status, or something to be done."""

    answers: deque[int | Callable[[BaseHTTPRequestHandler], Any]] = field(default_factory=deque)
    taken: list[dict[str, Any]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        assert self.server is not None
        return self.server.server_port

    @property
    def url(self) -> str:
        return f"json://bot:{SECRET}@127.0.0.1:{self.port}/{SECRET}/hook?-token={SECRET}"

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.taken]

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        answer = self.answers.popleft() if self.answers else 200
        body = handler.rfile.read(int(handler.headers["content-length"]))
        self.taken.append(json.loads(body))
        self.arrived.set()
        if callable(answer):
            answer(handler)
            return
        handler.send_response(answer)
        if answer in (301, 302):
            handler.send_header("location", f"http://127.0.0.1:{self.port}/login")
        handler.end_headers()


def hang(seconds: float) -> Callable[[BaseHTTPRequestHandler], Any]:
    """Answer nothing for so long."""
    return lambda _: time.sleep(seconds)


def drip(seconds: float) -> Callable[[BaseHTTPRequestHandler], Any]:
    """Answer a byte now and then, so that no wait between two bytes is long."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        end = time.monotonic() + seconds
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while time.monotonic() < end:
            try:
                handler.wfile.write(b"x")
                handler.wfile.flush()
            except OSError:  # nobody waits any more
                return
            time.sleep(0.1)

    return answer


@contextmanager
def webhook(*answers: int | Callable[[BaseHTTPRequestHandler], Any]) -> Iterator[Webhook]:
    made = Webhook(deque(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            made.take(self)

        def do_GET(self) -> None:  # where a redirection leads
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    made.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.server.daemon_threads = True
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


class Mailbox:
    """What aiosmtpd hands over; ``refuses`` answers 550 to every message."""

    def __init__(self) -> None:
        self.mails: list[Message] = []
        self.refuses = False
        self.port = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.refuses:
            return "550 not for us"
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=spine@example.com&to=ops@example.com"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    box = Mailbox()
    with socket.socket() as free:  # the controller connects to the number that it was given, so 0 will not do
        free.bind(("127.0.0.1", 0))
        box.port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=box.port)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def text_of(mail: Message) -> str:
    """Everything that a mail says, decoded."""
    parts = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    return "\n".join(bytes(part.get_payload(decode=True) or b"").decode() for part in parts)


def write(path: Path, **addresses: str) -> Channels:
    """A file of channels that its owner alone can read."""
    path.write_text(yaml.safe_dump(addresses))
    path.chmod(0o600)
    return Channels(path)

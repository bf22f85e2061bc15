"""The real API over a real store, on loopback, in this process.

What belongs here: starting it, and asking it. What does not: what it should answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from market_spine.api.answers import Answers
from market_spine.api.app import create_app
from market_spine.api.desk import Desk
from market_spine.api.limits import Limits, rate_of
from market_spine.automation.instance import open_instance
from market_spine.cli.serve import listening, server_of
from market_spine.domain.serving import Scope, Via
from market_spine.governance.consumption import Use
from market_spine.governance.tokens import create
from market_spine.logs import Level
from market_spine.settings import Settings, build_spine, clock
from market_spine.store.ledger import Run
from market_spine_tests.journeys.stage import NOW

FRIDAY = "2025-11-07"  # OTC of this week is restated in the demo


@dataclass
class Api:
    """A server that runs, and tokens for it."""

    url: str
    desk: Desk
    tokens: dict[Scope, str]

    def get(self, path: str, scope: Scope = Scope.READ, **options: Any) -> httpx.Response:
        return self.ask("GET", path, scope, **options)

    def post(self, path: str, body: Any, scope: Scope = Scope.OPERATE) -> httpx.Response:
        return self.ask("POST", path, scope, json=body)

    def ask(self, method: str, path: str, scope: Scope | None = Scope.READ, **options: Any) -> httpx.Response:
        headers = dict(options.pop("headers", {}))
        if scope is not None:
            headers["Authorization"] = f"Bearer {self.tokens[scope]}"
        whole = path if path.startswith("/") else f"/api/v1/{path}"
        return httpx.request(method, f"{self.url}{whole}", headers=headers, timeout=60, **options)

    def rows(self, path: str, **options: Any) -> list[dict[str, Any]]:
        """The rows of an answer of /data."""
        answer = self.get(f"data/{path}", **options)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["rows"]
        return found


@contextmanager
def serving(
    home: Path, now: Callable[[], datetime] = clock, rate: str = "100000/second", control_url: str = ""
) -> Iterator[Api]:
    """A server over the store of ``home``."""
    settings = Settings(home=home, log_level=Level.ERROR, control_url=SecretStr(control_url))
    spine = build_spine(settings, clock=now)
    spine.store.ensure()
    desk = Desk(spine, Limits(rate_of(rate), clock), Answers(), lambda: open_instance(spine.store.home.dagster))
    tokens = {scope: token(desk, f"{scope}-{time.monotonic_ns()}", scope) for scope in Scope}
    listener = listening("127.0.0.1", 0)
    server = server_of(create_app(desk))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Api(f"http://127.0.0.1:{listener.getsockname()[1]}", desk, tokens)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
        spine.store.control.dispose()


def token(desk: Desk, name: str, scope: Scope, expires_at: datetime | None = None) -> str:
    """The text of a new token."""
    return create(desk.store, Run.of_look("test", desk.now()), name, scope, expires_at, "test")[1]


def use(**more: Any) -> Use:
    """A use of nothing, but for ``more``."""
    return Use(NOW, "desk", Via.API, "GET /x", **more)

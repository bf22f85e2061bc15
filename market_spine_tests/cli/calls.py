"""The real command line in this process.

What belongs here: running commands. What does not: stores to run them on (`conftest`), and what they should print.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from typer.testing import CliRunner

from market_spine.cli.app import app

SOURCE = "synthetic:seed=7,scale=0.05"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def csv(self) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self.out)))


Command = Callable[..., Answer]


def call(*args: str, width: int = 80, stdin: str | None = None, **env: str) -> Answer:
    """Run ``spine`` with ``args``; anything but an exit code is a failure of the door."""
    settings = {"COLUMNS": str(width), "MARKET_SPINE_SOURCE": SOURCE, **env}
    result = CliRunner().invoke(app, list(args), input=stdin, env=settings, prog_name="spine")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Answer(result.exit_code, result.stdout, result.stderr)

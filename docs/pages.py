"""Fills the outputs of the pages from what their commands print: ``python docs/pages.py [--check] [PAGE ...]``.

A page is worked through from top to bottom, as a reader would: every line of an ``sh`` block and every ``sql`` block,
in copies of the stores that `spine demo` makes. The ``text`` block behind one is what it prints. Queries are asked of
`spine sql` and of the published file, which must answer alike.

* ``# exit code 1`` behind a command says that it ends so; without it, 0.
* A ``yaml`` block is a file that the reader writes; its first line is its name.
* "asked on 2025-12-20 12:00 UTC" in the text sets the clock, which goes on by a minute with every command.
* Ids of runs, and hashes of 12 digits and more, differ from store to store: they are not compared.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import time_machine
from typer.testing import CliRunner

from market_spine.cli.app import app

FOLDER = Path(__file__).parent
PAGES = (
    "anomalies",
    "calendar-corrections",
    "deploy",
    "events",
    "failure-scenarios",
    "gap-detection",
    "notifications",
    "operations",
    "readiness",
    "scheduling",
)
BLOCK = re.compile(r"^```(sh|sql|text|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CLOCK = re.compile(r"asked on (\d{4}-\d\d-\d\d \d\d:\d\d) UTC")
CODE = re.compile(r"# exit code (\d)$")
STORE = re.compile(r"\.market_spine/(?:demo|scenarios/([a-z-]+))")  # where the demo and its scenarios keep their stores
UNLIKE = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{12,128}\b")
WIDTH = "100"
HOME = "MARKET_SPINE_HOME"


class PageError(Exception):
    """A command of a page that does not do what the page says."""


@dataclass
class Stores:
    """The stores of the demo and its scenarios, each made once below ``root``, with what making it printed."""

    root: Path
    told: dict[str, str] = field(default_factory=dict)

    def make(self, name: str) -> Path:
        """The store of a scenario; of the demo itself where ``name`` is ''."""
        home = self.root / (name or "demo")
        if name not in self.told:
            words = ["--home", str(home), "demo", *(["--scenario", name] if name else [])]
            ended, printed = _spine(words)
            if ended:
                raise PageError(f"spine {shlex.join(words)}\n{printed}")
            title, _, rest = printed.partition("\n")
            story = rest.partition("\n\n")[2]  # between them: the folder, however many lines it takes
            self.told[name] = f"{title}\n{_path_of(name)}\n\n{story}".replace(str(home), _path_of(name))
        return home


def _path_of(name: str) -> str:
    return f".market_spine/scenarios/{name}" if name else ".market_spine/demo"


@dataclass
class Reader:
    """Someone who works through one page in the folder ``place``: what was exported, and what time it is.

    Queries are asked of ``store``, the one that the page named last.
    """

    stores: Stores
    place: Path
    moment: datetime | None
    exported: dict[str, str] = field(default_factory=dict)
    store: str = ""
    published: str = ""  # the store whose published file is made, with nothing done since

    def work_through(self, text: str) -> str:
        """``text`` with every output as it is now."""
        parts, end, printed = [], 0, None
        for block in BLOCK.finditer(text):
            kind, content = block.groups()
            between = text[end : block.start()]
            if kind == "text" and printed is not None and not between.strip():
                content = content if _is_like(content, printed) else printed
            parts += [between, f"```{kind}\n{content}```"]
            end = block.end()
            printed = self._do(kind, content) if kind in ("sh", "sql") else None
            if kind == "yaml":
                name = content.partition("\n")[0].removeprefix("# ")
                (self.place / name).write_text(content, encoding="utf-8")
        return "".join([*parts, text[end:]])

    def _do(self, kind: str, content: str) -> str:
        printed = self._ask(content) if kind == "sql" else "".join(map(self._line, content.splitlines()))
        printed = printed.replace(str(self.place), "$PWD")
        return "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())

    def _line(self, line: str) -> str:
        """What one line of a shell prints."""
        self.published = ""
        if named := STORE.search(line):
            self._bring(named[1] or "")
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.exported[name] = value.replace("$PWD", str(self.place))
            return ""
        if line.startswith("spine demo"):
            return self._demo(line)
        code = int(found[1]) if (found := CODE.search(line)) else 0
        is_plain = line.startswith("spine ") and not re.search(r" [>|] ", line)
        with self._there():
            ended, printed = _spine(shlex.split(line, comments=True)[1:]) if is_plain else _shell(line)
        if ended != code:
            raise PageError(f"{line}\nended with {ended}, not {code}:\n{printed}")
        return printed

    def _demo(self, line: str) -> str:
        if HOME in self.exported:
            raise PageError(f"{line}\nwould make its store below {self.exported[HOME]}")
        name = line.partition("--scenario ")[2].strip()
        self._bring(name)
        return self.stores.told[name]

    def _bring(self, name: str) -> None:
        """A copy of a store, to be used and changed by this page alone."""
        self.store = _path_of(name)
        target = self.place / self.store
        if not (target / "control.db").exists():
            shutil.copytree(self.stores.make(name), target, dirs_exist_ok=True)

    def _ask(self, sql: str) -> str:
        """What `spine sql` answers, if the published file answers the same."""
        home = ["--home", self.store]
        asked = [["sql", "-"], ["sql", "-", "-f", "csv"]]
        if self.published != self.store:
            asked.append(["publish"])
        with self._there():
            answers = [_spine([*home, *words], sql) for words in asked]
            ended = [code for code, _ in answers]
            if any(ended) or _lines(answers[1][1]) != _lines(_published(Path(self.store), sql)):
                raise PageError(f"{sql}\n{''.join(printed for _, printed in answers)}")
        self.published = self.store
        return answers[0][1]

    @contextmanager
    def _there(self) -> Iterator[None]:
        """In the reader's folder and shell, at the page's moment."""
        before, known = Path.cwd(), dict(os.environ)
        os.chdir(self.place)
        os.environ |= {"COLUMNS": WIDTH, "PATH": f"{Path(sys.executable).parent}:{known['PATH']}"} | self.exported
        try:
            if self.moment is None:
                yield
            else:
                with time_machine.travel(self.moment, tick=False):
                    yield
                self.moment += timedelta(minutes=1)
        finally:
            os.chdir(before)
            os.environ.clear()
            os.environ |= known


def _spine(words: list[str], given: str | None = None) -> tuple[int, str]:
    result = CliRunner().invoke(app, words, input=given, env={"COLUMNS": WIDTH}, prog_name="spine")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def _shell(line: str) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.returncode, done.stdout


def _published(home: Path, sql: str) -> str:
    """The answer of the published file as CSV."""
    import duckdb

    from market_spine.cli.output import Format, Listing, show

    with duckdb.connect(str(home / "market_spine.duckdb"), read_only=True) as engine:
        cursor = engine.execute(sql)
        columns, rows = [column[0] for column in cursor.description or ()], cursor.fetchall()
    with redirect_stdout(io.StringIO()) as told:
        show(Listing(columns, rows), Format.CSV)
    return told.getvalue()


def _lines(text: str) -> list[str]:
    """Without an ORDER BY rows come in any order."""
    return sorted(text.splitlines())


def _is_like(one: str, other: str) -> bool:
    return UNLIKE.sub("#", one) == UNLIKE.sub("#", other)


def current(name: str, text: str, stores: Stores) -> str:
    """The page ``name`` with outputs as they are now; PageError where one of its commands fails."""
    found = CLOCK.search(text)
    moment = datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else None
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as place:
        return Reader(stores, Path(place), moment).work_through(text)


def difference(before: str, after: str) -> str:
    """What is not current, as a unified diff."""
    lines = (before.splitlines(keepends=True), after.splitlines(keepends=True))
    return "".join(difflib.unified_diff(*lines, "the page", "as it is now"))


def main() -> int:
    """Write the pages, or with --check only show what is not current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", default=PAGES, help=", ".join(PAGES))
    parser.add_argument("--check", action="store_true")
    wanted = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("MARKET_SPINE_", "DAGSTER_"))]:
        del os.environ[name]  # a store of one's own is not to be touched
    stale = 0
    with tempfile.TemporaryDirectory(prefix="stores-") as root:
        stores = Stores(Path(root))
        for name in wanted.pages:
            path = FOLDER / f"{name}.md"
            before = path.read_text(encoding="utf-8")
            after = current(name, before, stores)
            if before != after:
                stale += 1
                sys.stdout.write(difference(before, after))
            if not wanted.check:
                path.write_text(after, encoding="utf-8")
    return int(wanted.check and stale > 0)


if __name__ == "__main__":
    raise SystemExit(main())

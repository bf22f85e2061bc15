"""Documentation that fails when it is stale: what a page names is there, and what it should name is named.

Working through the pages with outputs takes stores, and stands in `journeys.test_pages`.
"""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from docs.pages import BLOCK, PAGES
from market_spine.assets.record import SOURCE_UNAVAILABLE, STEP_FAILED
from market_spine.assets.tables import steps_of
from market_spine.automation.schedules import schedules_of
from market_spine.checks.findings import Finding
from market_spine.checks.gates import DELIVERY_CHECKS
from market_spine.checks.judge import check_names
from market_spine.cli.app import app
from market_spine.definitions import defs
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.regimes import REGIMES
from market_spine.domain.tiers import Tier
from market_spine.feeds import load_feeds
from market_spine.governance import causes
from market_spine.governance.calendar import CORRECTED
from market_spine.governance.expectations import INCOMPLETE_STAGE_CHAIN, LATE_DATA, MISSED_RUNS
from market_spine.governance.matters import CHANNEL_FAILING
from market_spine.governance.restatement import RESTATED
from market_spine.sources.delivery import Delivery
from market_spine.sources.synthetic import SyntheticSource
from market_spine.sources.synthetic_faults import FAULTS, Fault

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LARGEST_PICTURE = 300_000  # bytes; a page of pictures stays quick to clone and to read
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
IN_TEXT = re.compile(r"`(spine [^`]+)`")


def test_generated_tables_page_is_current() -> None:
    """Prevents the description of the tables from falling behind their declarations."""
    command = [sys.executable, "-W", "ignore", "docs/tables.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, "run: python docs/tables.py"


def test_every_decision_is_listed() -> None:
    """Prevents a decision record that nobody finds."""
    folder = DOCS / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in folder.glob("0*.md") if f"({page.name})" not in index]
    assert missing == []


def test_pictures_are_small() -> None:
    """Prevents a repository that grows by a screenshot a week."""
    pictures = list(DOCS.rglob("*.png"))
    assert [picture.name for picture in pictures if picture.stat().st_size > LARGEST_PICTURE] == []


def test_every_page_with_outputs_is_worked_through() -> None:
    """Prevents a page whose outputs nobody compares, and a block that is indented and so never run."""
    shown = {path.stem for path in DOCS.glob("*.md") if "```text" in path.read_text(encoding="utf-8")}
    assert shown == set(PAGES)
    for name in PAGES:
        text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        fences = re.findall(r"^\s*```\w+$", text, re.MULTILINE)
        assert len(fences) == len(BLOCK.findall(text)) >= 5, name


def commands(text: str) -> Iterator[str]:
    """Every command of this program that a document names, in its text or in a block."""
    for found in IN_TEXT.findall(re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)):
        yield " ".join(found.split())
    for kind, content in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if kind == "sh":
            yield from (line for line in content.splitlines() if line.startswith("spine "))


def strange(command: str) -> list[str]:
    """The words of a command that this program does not know: its name, or one of its options."""
    root: Any = get_command(app)
    here, options = root, {"-h", "--help", *(option for one in root.params for option in one.opts)}
    words = shlex.split(command.partition(" > ")[0], comments=True)[1:]
    unknown = []
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            unknown += [word] if word.partition("=")[0] not in options else []
            words = words[1:] if word == "--home" else words
        elif hasattr(here, "commands"):
            if word not in here.commands:
                return [*unknown, word]
            here = here.commands[word]
            options |= {option for one in here.params for option in one.opts}
    return unknown


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_names_exists(path: Path) -> None:
    """Prevents advice that ends in "no such command"."""
    found = list(commands(path.read_text(encoding="utf-8")))
    assert {command: words for command in found if (words := strange(command))} == {}


def test_the_search_for_commands_finds_them() -> None:
    """Prevents the test above from passing on nothing, or on everything."""
    assert sum(len(list(commands(path.read_text(encoding="utf-8")))) for path in DOCUMENTS) > 100
    assert strange("spine --home X anomalies list --all -n 2") == []
    assert strange("spine anomalies shows 1") == ["shows"]
    assert strange("spine doctor otc --week 4") == ["--week"]


def codes() -> set[str]:
    """Every code that an anomaly can have."""
    found = {causes.NOT_DELIVERED, MISSED_RUNS, LATE_DATA, INCOMPLETE_STAGE_CHAIN, CORRECTED, RESTATED, CHANNEL_FAILING}
    checks = {*DELIVERY_CHECKS, *check_names(())}
    checks |= {
        law.name for feed in load_feeds() for step in steps_of(feed).values() for law in step.calculation.invariants
    }
    some_week = WeekKey(date(2025, 11, 14), None)
    named = (Finding(one, some_week, False, Severity.WARN, Category.CONSISTENCY, "", "") for one in checks)
    return found | {SOURCE_UNAVAILABLE, STEP_FAILED, causes.DAMAGED} | {one.code for one in named}


def rows(text: str, title: str) -> list[list[str]]:
    """The cells of the table behind a heading, without its first two lines."""
    lines = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].splitlines()
    return [line.strip("|").split("|") for line in lines if line.startswith("|")][2:]


def names(cell: str) -> list[str]:
    return re.findall(r"`([A-Z_0-9]+)`", cell)


def test_the_page_of_anomalies_names_every_code_severity_category_and_regime() -> None:
    """Prevents a finding at night whose code stands nowhere."""
    page = (DOCS / "anomalies.md").read_text(encoding="utf-8")
    listed = [name for cells in rows(page, "Every code") for name in names(cells[0])]
    assert sorted(listed) == sorted(codes())
    assert {name for cells in rows(page, "What is usual") for name in names(cells[0])} == {one.code for one in REGIMES}
    told = [name for cells in rows(page, "Look") for name in names(cells[0])]
    assert told == [*Severity, *Category]


def test_the_page_of_anomalies_says_what_explains_what() -> None:
    """Prevents a page that sends people after another cause than the one that is linked."""
    page = (DOCS / "anomalies.md").read_text(encoding="utf-8")
    told: dict[str, tuple[str, ...]] = {}
    for effects, reasons in rows(page, "What explains what"):
        listed = tuple(re.findall(r"`([A-Z_]+)`|any (CRITICAL)", reasons))
        found = tuple(code or causes.CRITICAL for code, _ in listed)
        told |= dict.fromkeys(names(effects), found)
    assert told == {code: one.codes for code, one in causes.EXPLANATIONS.items()}


def test_the_page_of_the_browser_names_what_runs_by_itself() -> None:
    """Prevents a schedule or sensor that people meet without an explanation."""
    page = (DOCS / "ui.md").read_text(encoding="utf-8")
    running = {one.name for feed in load_feeds() for one in schedules_of(feed)}
    running |= {one.name for one in defs.sensors or ()}
    assert {
        name for cells in rows(page, "7. What runs by itself") for name in re.findall(r"`(\w+)`", cells[0])
    } == running


def trouble() -> list[list[str]]:
    """The rows of both tables of the recipe, the code in their first cell without its quotes."""
    found = rows((DOCS / "failure-scenarios.md").read_text(encoding="utf-8"), "Make your own trouble")
    return [[cell.strip(" `") for cell in cells] for cells in found]


def test_the_recipe_names_every_option_with_its_default() -> None:
    """Prevents an option that nobody finds, and a default that is not the one that holds."""
    told = {row[0].partition("=")[0]: row[1] for row in trouble() if len(row) == 3}
    parameters = inspect.signature(SyntheticSource).parameters.values()
    options = {one.name: f"{one.default:g}" for one in parameters if one.name != "faults"}
    assert told == options | {"fault": "none"}


def test_the_recipe_names_every_fault() -> None:
    """Prevents a fault that nobody finds, one that is described as another, and an example that changes nothing."""
    told = {row[0]: row[1] for row in trouble() if row[0].count(":") == 3 and "=" not in row[0]}
    assert {Fault.parse(one).name: meaning for one, meaning in told.items()} == {
        name: " ".join((fault.__doc__ or "").split()) for name, fault in FAULTS.items()
    }
    key, shown = WeekKey(date(2025, 11, 14), Tier.OTC), datetime(2025, 12, 17, 15, tzinfo=UTC)  # both 48 hours on
    (feed,) = load_feeds()
    sound = SyntheticSource.from_spec("scale=0.05").fetch(feed, key, shown)
    assert isinstance(sound, Delivery)
    for one in told:
        spoilt = SyntheticSource.from_spec(f"scale=0.05,fault={one}").fetch(feed, key, shown)
        assert not isinstance(spoilt, Delivery) or spoilt.parts != sound.parts, one

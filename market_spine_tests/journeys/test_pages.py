"""The pages with outputs, worked through as a reader would: commands end as they say, outputs are what they print.

The stores of the demo and its scenarios are made once; each page works on copies.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.pages import FOLDER, PAGES, PageError, Reader, Stores, current, difference
from market_spine.cli.scenarios import Name
from market_spine_tests.extended import extended
from market_spine_tests.journeys.plays import Plays

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plays")]


class Shared(Stores):
    """Scenarios as other tests have them too. No page shows what playing one prints."""

    def __init__(self, plays: Plays) -> None:
        super().__init__(plays.folder)
        self.plays = plays

    def make(self, name: str) -> Path:
        if name and self.plays.of(Name(name)).answer.code == 0:
            self.told[name] = self.plays.of(Name(name)).answer.out
        return super().make(name)


@pytest.fixture(scope="module")
def stores(plays: Plays) -> Stores:
    return Shared(plays)


LONG = ("anomalies", "calendar-corrections", "events", "gap-detection", "readiness", "scheduling")  # by what they load


@pytest.mark.parametrize("name", [extended(one, when=one in LONG) for one in PAGES])
def test_a_page_prints_what_it_shows(name: str, stores: Stores) -> None:
    """Prevents a command that fails, a query that answers otherwise, and an output that nobody prints any more."""
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    if "openssl" in text and not shutil.which("openssl"):
        pytest.skip("openssl is not installed: apt-get install openssl")
    changed = difference(text, current(name, text, stores))
    assert not changed, f"run: python docs/pages.py {name}\n{changed}"


PAGE = """
```sh
export MARKET_SPINE_HOME=$PWD/.market_spine/demo
{command}
```

```text
{shown}
```
"""


@pytest.mark.parametrize(
    ("command", "shown", "expected"),
    [
        ("spine sql 'SELECT 6 * 7 AS answer'", "answer\n──────\n    41", "answer\n──────\n    42"),
        ("echo 0123456789abcdef", "fedcba9876543210", "fedcba9876543210"),  # a hash of another store is no change
        ("spine gaps  # exit code 2", "", "No such command 'gaps'"),
    ],
)
def test_an_output_that_changed_is_found(
    command: str, shown: str, expected: str, stores: Stores, tmp_path: Path
) -> None:
    """Prevents pages that pass whatever they show."""
    after = Reader(stores, tmp_path, None).work_through(PAGE.format(command=command, shown=shown))
    assert expected in after.partition("```text")[2]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("spine sql 'SELECT 1'  # exit code 1", "ended with 0, not 1"),
        ("spine sql 'SELECT nothing'", "ended with 2, not 0"),
        ("spine demo", "would make its store below"),
    ],
)
def test_a_command_that_does_not_end_as_the_page_says_is_a_failure(
    command: str, told: str, stores: Stores, tmp_path: Path
) -> None:
    """Prevents a page that goes on after a command which failed, or which a reader's shell would run elsewhere."""
    with pytest.raises(PageError, match=told):
        Reader(stores, tmp_path, None).work_through(PAGE.format(command=command, shown=""))

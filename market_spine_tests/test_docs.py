"""Documentation that fails when it is stale: generated pages are current, decisions are listed, pictures are small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LARGEST_PICTURE = 300_000  # bytes; a page of pictures stays quick to clone and to read


def test_generated_tables_page_is_current() -> None:
    """Prevents the description of the tables from falling behind their declarations."""
    command = [sys.executable, "-W", "ignore", "docs/tables.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, "run: python docs/tables.py"


def test_every_decision_is_listed() -> None:
    """Prevents a decision record that nobody finds."""
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in folder.glob("0*.md") if f"({page.name})" not in index]
    assert missing == []


def test_pictures_are_small() -> None:
    """Prevents a repository that grows by a screenshot a week."""
    pictures = list((ROOT / "docs").rglob("*.png"))
    assert [picture.name for picture in pictures if picture.stat().st_size > LARGEST_PICTURE] == []

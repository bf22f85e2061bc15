"""docs/api.md: every command and program on it, run as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from market_spine.domain.serving import Scope
from market_spine_tests.api.server import Api
from market_spine_tests.cli.calls import Command
from market_spine_tests.conftest import ROOT

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs/api.md").read_text(encoding="utf-8"))
LINES = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]
PROGRAMS = [text for kind, text in BLOCKS if kind == "python"]
NAMES = ["pandas", "duckdb", "readiness", "replay"]
SHOWN = {  # the beginning of a command's request -> what its answer has
    "data/weeks": '"rows": [',
    "data/venues": "week_ending,tier,mpid,total_volume",
    "data/symbols/SYDPSM": "week_ending,tier,total_volume,hhi\n2025-",
    "data/symbol_hhi": "is a Thursday",
}


def test_the_page_has_programs() -> None:
    """Prevents the tests below from passing on nothing."""
    assert len(PROGRAMS) == len(NAMES)
    assert len([line for line in LINES if line.startswith("curl")]) == 4


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("curl")])
def test_a_request_of_the_page(api: Api, line: str) -> None:
    """Prevents a request that does not answer as the page says."""
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    done = subprocess.run(["bash", "-c", line], env=environment(api), capture_output=True, text=True, check=True)
    (told,) = [told for path, told in SHOWN.items() if f"$SPINE_API/api/v1/{path}" in line]
    assert told in done.stdout


@pytest.mark.parametrize("program", PROGRAMS, ids=NAMES)
def test_a_program_of_the_page(api: Api, program: str, tmp_path: Path) -> None:
    """Prevents a program that an integrator copies and that fails."""
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], env=environment(api), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "print" in program:
        assert len(done.stdout.splitlines()) >= 4


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("spine") and " serve" not in line])
def test_a_command_of_the_page(spine: Command, line: str) -> None:
    """Prevents a command that the program does not have."""
    answer = spine(*shlex.split(line)[1:])
    assert answer.code == 0, answer.err


def environment(api: Api) -> dict[str, str]:
    return os.environ | {"SPINE_API": api.url, "SPINE_TOKEN": api.tokens[Scope.READ]}

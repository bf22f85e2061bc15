"""The rules of the house, checked by a machine: sizes, forbidden names, entries, import contracts, links, versions.

What belongs here: rules about the source as text. What does not: what the code does.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance

import market_spine

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "market_spine"
GENERATED = PACKAGE / "store" / "migrations" / "versions"
FILE_LINES, FUNCTION_LINES = 400, 40

TOP_LEVEL = {
    ".ci",
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "benchmarks",
    "dagster.yaml",
    "deploy",
    "docs",
    "market_spine",
    "market_spine_tests",
    "pyproject.toml",
    "requirements.lock",
    "setup.cfg",
    "workspace.yaml",
}

# The clock is read at the doors only, and handed down as an argument.
CLOCK = {"now", "utcnow", "today"}
CLOCK_READERS = {"datetime", "date", "dt", "Timestamp", "pd"}
DOORS = ("definitions.py", "settings.py", "cli")

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Every file of the project: what git tracks or would, or, outside a checkout, a skip with its reason."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"not a git checkout: {answer.stderr.strip()}")
    return [ROOT / name for name in answer.stdout.splitlines() if (ROOT / name).exists()]


def texts() -> Iterator[tuple[str, str]]:
    """Name and text of every tracked text file but the lock file and the licence, which others wrote."""
    for path in tracked():
        is_text = path.suffix != ".png" and path.name not in {"requirements.lock", "LICENSE"}
        if is_text and path.is_file():
            yield name_of(path), path.read_text(encoding="utf-8")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def clock_calls(tree: ast.Module) -> Iterator[int]:
    """Lines that read the clock: datetime.now(), date.today(), pd.Timestamp.now(), time.time()."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            last = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if (node.func.attr in CLOCK and last in CLOCK_READERS) or (node.func.attr, last) == ("time", "time"):
                yield node.lineno


def swallowed(tree: ast.Module) -> Iterator[int]:
    """Lines of handlers that catch everything, or that do nothing with what they caught."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"}
            silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
            if broad and silent:
                yield node.lineno


def violations(source: str) -> list[str]:
    """Every house rule that ``source`` breaks, with its line."""
    tree, found = ast.parse(source), []
    if len(source.splitlines()) > FILE_LINES:
        found.append(f"{len(source.splitlines())} lines, {FILE_LINES} allowed")
    for function in functions(tree):
        lines = (function.end_lineno or 0) - function.lineno + 1
        if lines > FUNCTION_LINES:
            found.append(f":{function.lineno} {function.name} has {lines} lines, {FUNCTION_LINES} allowed")
    found += [f":{line} reads the clock" for line in clock_calls(tree)]
    found += [f":{line} swallows every exception" for line in swallowed(tree)]
    found += [f" has {word}" for word in ("NotImplementedError", "TODO", "FIXME", "utcnow") if word in source]
    if not ast.get_docstring(tree):
        found.append(" has no docstring that says what belongs there")
    return found


def is_door(path: Path) -> bool:
    return path.relative_to(PACKAGE).parts[0] in DOORS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_keeps_the_rules_of_the_house(path: Path) -> None:
    """Prevents growth without a decision, work left undone, swallowed errors and a clock read in the middle."""
    found = violations(path.read_text(encoding="utf-8"))
    assert [text for text in found if not (is_door(path) and "reads the clock" in text)] == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = datetime.now(UTC)", "reads the clock"),
        ("x = datetime.datetime.now(UTC)", "reads the clock"),
        ("x = date.today()", "reads the clock"),
        ("x = pd.Timestamp.now()", "reads the clock"),
        ("x = time.time()", "reads the clock"),
        ("try:\n    f()\nexcept Exception:\n    pass", "swallows every exception"),
        ("try:\n    f()\nexcept:\n    pass", "swallows every exception"),
        ("raise NotImplementedError", "has NotImplementedError"),
        ("x = 1  # TODO later", "has TODO"),
        ("def f():\n" + "    x = 1\n" * 40, "f has 41 lines, 40 allowed"),
        ("x = 1\n" * 400, "401 lines, 400 allowed"),
    ],
    ids=lambda text: text[:40],
)
def test_the_rules_find_what_they_forbid(body: str, expected: str) -> None:
    """Prevents rules that pass because they look at nothing."""
    assert [expected in text for text in violations(f'"""Docstring."""\n{body}')] == [True]


def test_a_module_without_a_docstring_is_found() -> None:
    """Prevents the docstring rule from passing everywhere."""
    assert violations("x = 1") == [" has no docstring that says what belongs there"]


def test_the_rules_saw_the_house() -> None:
    """Prevents a moved package, of which all rules above would be true."""
    assert {"weeks.py", "contracts.py", "__init__.py"} <= {path.name for path in MODULES}


def test_only_known_entries_at_the_top() -> None:
    """Prevents scratch files, exports and data from being committed beside the project."""
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} - TOP_LEVEL == set()


def test_no_path_of_one_machine() -> None:
    """Prevents a file that works where it was written only."""
    machine = re.compile(r"(?<![\w.$}/])/(?:work|farm|root|home/\w+|Users/\w+)/")
    found = [f"{name}: {match.group()}" for name, text in texts() for match in machine.finditer(text)]
    assert found == []


def test_no_rows_of_finra() -> None:
    """Prevents FINRA's files from being committed: the project ships a generator instead."""
    real = re.compile(r"finra_otc_weekly_.*\.csv$|week_\d{4}-\d\d-\d\d\.psv$")
    assert [name_of(path) for path in tracked() if real.search(path.name)] == []


def test_import_contracts_hold() -> None:
    """Prevents an import that runs upward, and a folder without a floor."""
    program = Path(sys.executable).with_name("lint-imports")
    answer = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert re.search(r"Contracts: [1-9]\d* kept, 0 broken", answer.stdout)


def test_every_link_between_documents_leads_somewhere() -> None:
    """Prevents documentation that names a file which was moved or never written."""
    link = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
    broken = [
        f"{name}: {target}"
        for name, text in texts()
        if name.endswith(".md")
        for target in link.findall(text)
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_every_make_target_named_in_a_document_exists() -> None:
    """Prevents instructions that end in "No rule to make target"."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", makefile, re.MULTILINE))
    assert {"help", "test", "demo"} <= targets
    wanted = {
        (name, target)
        for name, text in texts()
        if name.endswith(".md")
        for target in re.findall(r"(?:`|^\s*)make ([a-z0-9-]+)", text, re.MULTILINE)
    }
    assert {pair for pair in wanted if pair[1] not in targets} == set()


def test_the_changelog_has_a_place_for_this_version() -> None:
    """Prevents a release of which the changelog says nothing."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog
    assert market_spine.__version__ == "0.1.0" or f"## [{market_spine.__version__}]" in changelog


def test_the_lock_file_holds_every_requirement_with_hashes_and_no_other_index() -> None:
    """Prevents an environment that differs from the tested one, or comes from somewhere else."""
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.split(r"[\[=<>]", requirement)[0].lower() for requirement in wanted}
    locked = {name.lower() for name in re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[\w,]+\])?==", lock, re.MULTILINE)}
    assert len(names) > 20
    assert names <= locked
    assert len(re.findall(r"^\S+==", lock, re.MULTILINE)) == len(re.findall(r"==.*\\\n    --hash=sha256:", lock))
    assert re.findall(r"^--|file://|https?://", lock, re.MULTILINE) == []


def test_dagsters_configuration_is_valid_and_ships_in_the_package(tmp_path: Path) -> None:
    """Prevents a key that this Dagster does not know, and a crashed run that stays STARTED for ever."""
    shipped = PACKAGE / "dagster.yaml"
    assert shipped.read_bytes() == (ROOT / "dagster.yaml").read_bytes()
    (tmp_path / "dagster.yaml").write_bytes(shipped.read_bytes())
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_max_runtime_seconds > 0
        assert instance.run_retries_enabled
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1


def test_the_workspace_and_the_project_name_one_module() -> None:
    """Prevents `dagster dev` and `dagster definitions` from loading two different places."""
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["dagster"]
    module = workspace["load_from"][0]["python_module"]
    assert (module["module_name"], module["location_name"]) == (tool["module_name"], tool["code_location_name"])

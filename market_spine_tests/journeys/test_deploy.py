"""What stands in deploy/: every path, program, option and port in it is right, and the units' commands run together."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from market_spine_tests.cli.calls import SOURCE, call

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SYSTEMD, COMPOSE = DEPLOY / "systemd", DEPLOY / "compose"
PROGRAMS = Path(sys.executable).parent
INSTALLED = "/opt/market-spine/.venv/bin"
SERVICES = ("api", "code", "daemon", "metrics", "webserver")
PORTS = {"api": "8000", "code": "4266", "webserver": "3000", "metrics": "9187"}
START_SECONDS = 150  # four cold starts beside other tests; 12 s on an idle machine
URL = "MARKET_SPINE_DAGSTER_URL"


def lines(path: Path) -> list[tuple[str, str]]:
    """The settings of a unit, in order; a comment is none."""
    found = [line for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\w+=", line)]
    return [(name, value) for name, _, value in (line.partition("=") for line in found)]


def unit(name: str) -> Path:
    return SYSTEMD / f"market-spine-{name}.service"


def command(name: str) -> list[str]:
    """What a unit starts, with the programs of this environment."""
    return shlex.split(dict(lines(unit(name)))["ExecStart"].replace(INSTALLED, str(PROGRAMS)))


def test_the_target_groups_every_unit() -> None:
    """Prevents a unit that nobody starts."""
    wanted = dict(lines(SYSTEMD / "market-spine.target"))["Wants"].split()
    assert sorted(wanted) == sorted(path.name for path in SYSTEMD.glob("*.service"))
    assert sorted(wanted) == [f"market-spine-{name}.service" for name in SERVICES]


def test_the_units_are_hardened_and_hold_no_secret() -> None:
    """Prevents a service that runs as root, listens to everybody, or has a password where all can read it."""
    common = dict(lines(SYSTEMD / "market-spine-.service.d" / "common.conf"))
    wanted = {
        "User": "market-spine",
        "Restart": "always",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "PrivateTmp": "yes",
        "ProtectHome": "yes",
        "ReadWritePaths": "/var/lib/market-spine",
        "EnvironmentFile": "/etc/market-spine/market-spine.env",
        "CapabilityBoundingSet": "",
    }
    assert {name: common.get(name) for name in wanted} == wanted
    for name in SERVICES:
        text = unit(name).read_text(encoding="utf-8")
        assert not re.search(r"Environment=|PASSWORD|SECRET|://", text)
        assert "0.0.0.0" not in text
        assert ("IPAddressDeny", "any") in lines(unit(name)) or name == "code"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (systemd)")
def test_systemd_reads_the_units(tmp_path: Path) -> None:
    """Prevents a setting that systemd does not know, and ignores with a line in its log."""
    shutil.copytree(SYSTEMD, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("*.service"):
        path.write_text(path.read_text().replace(INSTALLED, str(PROGRAMS)))
    env = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    units = sorted(path.name for path in (*tmp_path.glob("*.service"), *tmp_path.glob("*.target")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "market-spine" in line]
    assert (done.returncode, ours) == (0, [])


def test_ports_agree() -> None:
    """Prevents a daemon that looks for its code where nothing listens."""
    for folder in (SYSTEMD, COMPOSE):
        (server,) = yaml.safe_load((folder / "workspace.yaml").read_text())["load_from"]
        assert str(server["grpc_server"]["port"]) == PORTS["code"]
    for name, port in PORTS.items():
        assert command(name)[command(name).index("--port") + 1] == port
        assert port in compose()["services"][name]["command"]
    scraped = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"metrics:{PORTS['metrics']}"]


def compose() -> Any:
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))


def test_the_compose_file_holds_together() -> None:
    """Prevents a container without a health check, an open port, an image that is another one tomorrow, a lost file."""
    services, volumes = compose()["services"], set(compose()["volumes"])
    assert set(services) == {*SERVICES, "init", "postgres", "prometheus"}
    for name, one in services.items():
        assert re.fullmatch(r"[\w/.-]+:v?\d[\w.-]+", one["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
        assert set(one.get("depends_on", {})) <= set(services), name
        for place in one.get("volumes", []):
            source = place.partition(":")[0]
            assert (COMPOSE / source).exists() if source.startswith(".") else source in volumes, place
        if name not in ("init", "postgres"):
            assert "no-new-privileges:true" in one["security_opt"], name
            assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"]), name
        assert ("healthcheck" in one) == (name != "init"), name
    for name in (*SERVICES, "init"):
        assert (PROGRAMS / services[name]["command"][0]).exists(), name
    for name in SERVICES:
        test = services[name]["healthcheck"]["test"]
        assert (test[0], (PROGRAMS / test[1]).exists()) == ("CMD", True), name


def test_containers_run_what_the_units_run() -> None:
    """Prevents two ways to deploy that drift apart: but for where they listen and find their files, they are one."""
    for name in SERVICES:
        ours = [Path(word).name for word in command(name) if word not in ("--host", "127.0.0.1")]
        theirs = [
            Path(word).name for word in compose()["services"][name]["command"] if word not in ("--host", "0.0.0.0")
        ]
        assert ours == theirs


def test_the_image_copies_what_is_there() -> None:
    """Prevents a build that ends in "not found", an image that runs as root, and a base that changes by itself."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    copied = {word for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for word in line.split()}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    allowed = {
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert allowed == copied
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    assert re.search(r"^USER market-spine$", text, re.MULTILINE)


def test_the_environment_file_is_read_alike_by_systemd_and_the_shell() -> None:
    """Prevents a value that one of the two reads otherwise, and a setting that does not exist."""
    from market_spine.settings import Settings

    text = (SYSTEMD / "market-spine.env.example").read_text(encoding="utf-8")
    settings = [line.lstrip("#") for line in text.splitlines() if re.match(r"#?[A-Z_]+=", line)]
    assert len(settings) > 8
    assert [line for line in settings if not re.fullmatch(r'[A-Z_]+="[^"$`\\]*"', line)] == []
    known = {f"MARKET_SPINE_{name.upper()}" for name in Settings.model_fields}
    known |= {"DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY", "HOME", "FINRA_API_CLIENT_ID", "FINRA_API_CLIENT_SECRET"}
    assert {line.partition("=")[0] for line in settings} <= known
    secret = [line for line in settings if "PASSWORD" in line or "SECRET" in line]
    assert all(f"#{line}" in text for line in secret), "an example that is used as it stands has no password in it"


@contextmanager
def running(name: str, words: list[str], env: dict[str, str], folder: Path) -> Iterator[Callable[[], str]]:
    """A unit's command; what it has said so far. Ended with its group, and no other process."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(words, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield lambda: f"{name} ({process.poll()}): {log.read_text(errors='replace')[-3000:]}"
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)


def until(what: Callable[[], bool], said: Callable[[], str]) -> None:
    """Return once ``what`` holds; fail with what was said."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError):  # nobody listens yet
            if what():
                return
        time.sleep(0.3)
    pytest.fail(said())


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def is_open(port: str) -> bool:
    with socket.create_connection(("127.0.0.1", int(port)), 1):
        return True


def fetched(url: str, body: bytes | None = None) -> str:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


LOADED = (
    "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename } } } } }"
)


@pytest.mark.slow
def test_the_units_commands_run_together(
    postgres_database: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents units that are right one by one: code server, daemon, web interface and metrics on one PostgreSQL."""
    url = postgres_database.replace("+psycopg", "")
    monkeypatch.setenv(URL, url)
    assert call("init").code == 0
    ports = {name: free_port() for name in PORTS}
    workspace = tmp_path / "workspace.yaml"
    text = (SYSTEMD / "workspace.yaml").read_text(encoding="utf-8")
    workspace.write_text(text.replace(PORTS["code"], ports["code"]))
    replaced = {PORTS[name]: port for name, port in ports.items()} | {
        "/etc/market-spine/workspace.yaml": str(workspace)
    }
    env = os.environ | {"DAGSTER_HOME": str(home / "dagster"), "MARKET_SPINE_SOURCE": SOURCE}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}

    def words(name: str) -> list[str]:
        return [replaced.get(word, word) for word in command(name)]

    def has_ticked() -> bool:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT count(*) FROM job_ticks WHERE type = 'SENSOR' AND status = 'SKIPPED'")
            return found.fetchone() != (0,)

    with ExitStack() as stack:
        said = {name: stack.enter_context(running(name, words(name), env, tmp_path)) for name in ("code", "metrics")}
        until(lambda: is_open(ports["code"]), said["code"])
        for name in ("daemon", "webserver"):
            said[name] = stack.enter_context(running(name, words(name), env, tmp_path))
        metrics, web = (f"http://127.0.0.1:{ports[name]}" for name in ("metrics", "webserver"))
        until(lambda: "# TYPE" in fetched(f"{metrics}/metrics"), said["metrics"])
        asked = json.dumps({"query": LOADED}).encode()
        until(lambda: '"RepositoryLocation"' in fetched(f"{web}/graphql", asked), said["webserver"])
        until(has_ticked, said["daemon"])
    assert not list((home / "dagster").rglob("*.db")), "the record is on the server"

"""A platform of real processes on loopback, started again when they die: what systemd does with deploy/systemd.

What belongs here: starting, watching, finding and killing processes that this program started, and no other ones. What
does not: when which one is killed (`kills`), and what is asked of them meanwhile (`bustle`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import environment

RESTART_SECONDS = 2.0  # RestartSec of deploy/systemd
STOP_SECONDS = 10.0  # in the end, before what does not end by itself is made to
LOOK_SECONDS = 0.2
DAGSTER = Path(sys.executable).with_name("dagster")
LOCATION = "market_spine"


@dataclass
class Service:
    """One unit: its command, run again whenever its main process has ended."""

    name: str
    command: Sequence[str]
    folder: Path
    settings: dict[str, str]  # read at each start
    process: subprocess.Popen[bytes] | None = None
    groups: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        """Start it, and start it again 2 s after it is gone; until it is stopped."""
        while not self.stop.is_set():
            self.process = started(self.command, self.folder / f"{self.name}.log", self.folder, self.settings)
            self.groups.append(self.process.pid)
            while self.process.poll() is None and not self.stop.is_set():
                time.sleep(LOOK_SECONDS)
            self.stop.wait(RESTART_SECONDS)  # what it had started goes on: KillMode=process

    @property
    def pid(self) -> int | None:
        """The main process, while it lives."""
        return self.process.pid if self.process and self.process.poll() is None else None


def started(command: Sequence[str], log: Path, folder: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    """``command`` as the leader of a group of its own, so that what it starts can be told from all else."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command, cwd=folder, env=environment(settings), stdout=out, stderr=out, start_new_session=True
        )


def members(group: int) -> dict[int, str]:
    """Process id -> command line, of the processes of a group that live."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError):
            state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(pgrp) == group and state not in "ZX":
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def workers(group: int) -> list[int]:
    """The processes of a code server's group that carry out a run."""
    return sorted(pid for pid, line in members(group).items() if "spawn_main" in line)


def end(group: int, patience: float) -> None:
    """End what is left of a group: asked first, made to after ``patience`` seconds."""
    _signal(group, signal.SIGTERM)
    until = time.monotonic() + patience
    while members(group) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    _signal(group, signal.SIGKILL)


def kill(pid: int) -> None:
    """Kill one process, which must be of a group that this program started."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill_all(group: int) -> None:
    """Kill a whole group at once, as a machine does that runs out of memory."""
    _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on ``port``."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@dataclass
class Platform:
    """Code server, daemon and web interface of one home, by the commands of deploy/systemd."""

    home: Path
    settings: dict[str, str]
    code_port: int = field(default_factory=free_port)
    web_port: int = field(default_factory=free_port)
    services: dict[str, Service] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        workspace = self.home / "workspace.yaml"
        server = f"{{host: 127.0.0.1, port: {self.code_port}, location_name: {LOCATION}}}"
        workspace.write_text(f"load_from:\n  - grpc_server: {server}\n", encoding="utf-8")
        code = ("--host", "127.0.0.1", "--port", str(self.code_port), "-m", "market_spine.definitions")
        web = ("--host", "127.0.0.1", "--port", str(self.web_port), "--workspace", str(workspace))
        commands = {
            "code server": (str(DAGSTER), "api", "grpc", *code, "--location-name", LOCATION),
            "daemon": (str(DAGSTER.with_name("dagster-daemon")), "run", "--workspace", str(workspace)),
            "web interface": (str(DAGSTER.with_name("dagster-webserver")), *web),
        }
        for name, command in commands.items():
            self.services[name] = Service(name, command, self.home, self.settings)

    def start(self) -> None:
        """Start every service; the code server first, as its units are ordered."""
        for service in self.services.values():
            self.run(service.keep)

    def run(self, body: Callable[[], None]) -> None:
        """``body`` in a thread of its own, which ends with the platform."""
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        self.threads.append(thread)

    def close(self) -> None:
        """Stop watching, and end every group that was ever started."""
        for service in self.services.values():
            service.stop.set()
        for thread in self.threads:
            thread.join(STOP_SECONDS)
        for service in self.services.values():
            for group in service.groups:
                end(group, STOP_SECONDS)

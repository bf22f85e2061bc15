"""Two hundred clients of the REST API at once, while weeks are loaded beside it: waits, failures, memory.

    python -m benchmarks.load                        30 s beside a backfill of 26 weeks, then ten minutes alone
    python -m benchmarks.load --seconds 10 --steady 20

A failure is any answer but 200 or 304, or none. Each client keeps one connection, as a program does, and asks at random
for weeks, venues, symbols, a table as known earlier, readiness; half of its questions bring the version that it has.
The floor is the same clients asking for /health/live, of which nothing is looked up or put on record.

What belongs here: asking and counting. What does not: what is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.measure import ROOT, SPINE, child, environment

CLIENTS, SECONDS, STEADY_SECONDS = 200, 30.0, 600.0
WEEKS_THERE, WEEKS_LOADED = 4, 26
SOURCE = {"MARKET_SPINE_SOURCE": "synthetic:seed=7,scale=0.4", "MARKET_SPINE_API_RATE": "1000000/second"}
SEED = 20261122
LIVE = "/api/v1/health/live"


@dataclass
class Told:
    """What the clients saw: seconds of each answer, what failed, and how many rows were unchanged."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)

    def summary(self, elapsed: float) -> dict[str, Any]:
        ordered = sorted(self.seconds)
        at = {name: round(1000 * ordered[int(share * (len(ordered) - 1))], 1) for name, share in SHARES.items()}
        return {
            "answers": len(ordered),
            "per_second": round(len(ordered) / elapsed),
            "milliseconds": at,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "failures": dict(self.failures),
        }


SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def paths(home: Path) -> list[str]:
    """What is asked for, by weeks that are there before the load begins."""
    sample = child([*SPINE, "--home", str(home), "query", "otc_weeks", "-f", "json"], SOURCE)
    weeks = sorted({row["week_ending"] for row in json.loads(sample.output)})
    asked = ["data/weeks", "data/venues?format=csv", f"readiness/otc/{weeks[0]}", "anomalies", "catalog"]
    for week in weeks:
        asked += [
            f"data/symbol_hhi?week_ending={week}&tier=OTC&limit=100",
            f"data/symbols?week_ending={week}&limit=50",
            f"data/venue_share?week_ending={week}&as_of=2100-01-01",
        ]
    return [f"/api/v1/{one}" for one in asked]


async def client(place: tuple[str, int], token: str, asked: Sequence[str], until: float, told: Told, seed: int) -> None:
    """Ask until it is time to stop."""
    chosen, held = random.Random(seed), dict[str, str]()
    reader, writer = await asyncio.open_connection(*place)
    while time.perf_counter() < until:
        path = chosen.choice(asked)
        version = f"If-None-Match: {held[path]}\r\n" if path in held and chosen.random() < 0.5 else ""
        started = time.perf_counter()
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{version}\r\n".encode())
            status, etag = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError) as error:
            told.failures[type(error).__name__] += 1
            reader, writer = await asyncio.open_connection(*place)
            continue
        told.seconds.append(time.perf_counter() - started)
        told.statuses[status] += 1
        if status not in (200, 304, 503) or (status == 503 and "/readiness/" not in path):
            told.failures[f"{status} {path}"] += 1
        if etag:
            held[path] = etag
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    """Status and version; the body is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = re.search(r"(?i)^content-length: (\d+)", head, re.MULTILINE)
    if length:
        await reader.readexactly(int(length[1]))
    etag = re.search(r"(?i)^etag: (\S+)", head, re.MULTILINE)
    return int(head.split(" ", 2)[1]), etag[1] if etag else ""


async def ask(place: tuple[str, int], token: str, asked: Sequence[str], seconds: float, clients: int) -> dict[str, Any]:
    """All clients at once, for so long."""
    told, started = Told(), time.perf_counter()
    until = started + seconds
    await asyncio.gather(*(client(place, token, asked, until, told, SEED + number) for number in range(clients)))
    return told.summary(time.perf_counter() - started)


@contextmanager
def server(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int], str]]:
    """`spine serve` over ``home``: its process, its address and a token."""
    token = child([*SPINE, "--home", str(home), "tokens", "create", "load"], SOURCE).output.split()[-1]
    command = [*SPINE, "--home", str(home), "serve", "--port", "0"]
    log = home.with_name("serve.log")  # a file: a pipe that nobody empties would hold the server up
    with (
        log.open("w") as stream,
        subprocess.Popen(command, env=environment(SOURCE), cwd=ROOT, stderr=stream) as process,
    ):
        try:
            address = urlsplit(_address(log, process))
            yield process, (str(address.hostname), int(address.port or 0)), token
        finally:
            process.terminate()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the server says that it serves."""
    while process.poll() is None:
        if found := re.search(r"http://\S+", log.read_text(encoding="utf-8")):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(f"spine serve ended: {log.read_text(encoding='utf-8')}")


def resident_mib(process: subprocess.Popen[bytes]) -> float:
    """The resident memory of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


async def steadily(
    process: subprocess.Popen[bytes], place: tuple[str, int], token: str, asked: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Twenty clients for a long time, and the memory of the server meanwhile, in tenths of that time."""
    held: list[float] = []
    asking = asyncio.create_task(ask(place, token, asked, seconds, 20))
    for _ in range(10):
        await asyncio.sleep(seconds / 10)
        held.append(round(resident_mib(process), 1))
    return await asking | {"resident_mib": held}


def measure(seconds: float = SECONDS, steady: float = STEADY_SECONDS) -> dict[str, Any]:
    """The floor, the load beside a backfill, and the long run."""
    with tempfile.TemporaryDirectory(prefix="load-") as temporary:
        home = Path(temporary) / "home"
        child([*SPINE, "--home", str(home), "backfill", "--weeks-back", str(WEEKS_THERE)], SOURCE)
        asked = paths(home)
        with server(home) as (process, place, token):
            floor = asyncio.run(ask(place, token, [LIVE], min(seconds, 10.0), CLIENTS))
            beside = [*SPINE, "--home", str(home), "backfill", "--weeks-back", str(WEEKS_LOADED)]
            with subprocess.Popen(beside, env=environment(SOURCE), cwd=ROOT, stdout=subprocess.DEVNULL) as backfill:
                loaded = asyncio.run(ask(place, token, asked, seconds, CLIENTS))
                was_under_way = backfill.poll() is None
                ended = backfill.wait()
            long_run = asyncio.run(steadily(process, place, token, asked, steady))
        counted = "SELECT count(*) AS n FROM core_consumption WHERE via = 'api'"
        uses = child([*SPINE, "--home", str(home), "sql", counted, "-f", "csv"], SOURCE)
    answered = sum(one["answers"] for one in (loaded, long_run))
    return {
        "clients": CLIENTS,
        "weeks_loaded": WEEKS_LOADED,
        "seconds": seconds,
        "steady_seconds": steady,
        "floor": floor,
        "load": loaded | {"backfill_went_on": was_under_way, "backfill_ended_with": ended},
        "steady": long_run,
        "answers": answered,
        "uses_on_record": int(uses.output.split()[-1]),
    }


def main() -> int:
    """Measure, and print what was seen; exit code 1 where anything failed or is not on record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--steady", type=float, default=STEADY_SECONDS)
    chosen = parser.parse_args()
    found = measure(chosen.seconds, chosen.steady)
    print(json.dumps(found, indent=1))
    failed = found["load"]["failures"] or found["steady"]["failures"] or found["load"]["backfill_ended_with"]
    return int(bool(failed) or found["answers"] != found["uses_on_record"])


if __name__ == "__main__":
    sys.exit(main())

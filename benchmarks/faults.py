"""Faults, each made for real in a fresh home: what the user is told, what `spine verify` finds, what the remedy does.

    python -m benchmarks.faults                  all of them: about ten minutes
    python -m benchmarks.faults --only landing   those whose name has the word

Every fault ends in the same way: the cause is removed or the printed remedy is carried out **as printed**, the command
is repeated, and the store is compared with a twin that nothing happened to. Small disks and read-only folders are
mounts, which only root may make; elsewhere those faults are left out, and said to be.

What belongs here: playing a fault and judging its end. What does not: what the faults are (`havoc`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import havoc
from benchmarks.havoc import FAULTS, Fault, Hurt, Place, can_mount
from benchmarks.measure import ROOT, SPINE, environment

SOURCE = "synthetic:seed=7,scale=0.02"
RESTATED = f"{SOURCE},fault=restatement:*:*:3"  # the same series, as restated since then
SPAN = ("--from", "2025-11-07", "--to", "2025-11-14")
LOAD = ("run", "otc.weekly_refresh", "-w", "2025-11-14", "--tier", "OTC", "--source", RESTATED)
RAW = ("Traceback", "unexpected ", "database is locked", "lock_timeout")  # what nobody should have to read
KINDS = ("control ", "capture ", "landing ", "journal ")  # of differences that `spine verify` shows
NEXT = re.compile(r"^\s*next: (.*)$", re.MULTILINE)
COMMAND = re.compile(r"spine( --home \S+)? (rebuild|backfill|run|publish|init)[^#;\n]*")
MOVED = re.compile(r"move the control database away \((.*?)\)")
LOOK = re.compile(r"spine( --home \S+)? verify\b")
SHELL = re.compile(r"(mkdir -p .*?)  #")
BACKUP = re.compile(r"restore (\S+) from a backup|restore (the file|the landing folder|it) from a backup")


@dataclass
class Answer:
    """What a command ended with and said."""

    code: int
    output: str

    @property
    def cause(self) -> str:
        """The first line that says what is wrong; of a difference the one below its name too."""
        lines = self.output.strip().splitlines() or [""]
        for place, line in enumerate(lines):
            if line.startswith(("error:", "unexpected")):
                return line
            if line.startswith(KINDS):
                return " ".join(one.strip() for one in lines[place : place + 2])
        return lines[-1]

    @property
    def remedies(self) -> list[str]:
        """What it says to do next."""
        return list(dict.fromkeys(NEXT.findall(self.output)))


@dataclass
class Ending:
    """How one fault went; ``wrong`` says what was not as it has to be."""

    fault: str
    told: Answer
    verified: Answer
    done: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def spine(place: Place, *words: str) -> Answer:
    """One command in a process of its own, at the time and with the folders of ``place``."""
    command = [*(place.program or SPINE), "--home", str(place.home), *words]
    settings = {"COLUMNS": "200", **place.settings}  # wide enough that no path is cut in two
    done = subprocess.run(
        command,
        env=environment(settings),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if " partitions" not in line]
    return Answer(done.returncode, "\n".join(lines))


def copy(base: Path, home: Path) -> Path:
    """A copy of a home with a Dagster record of its own: dagster.yaml names its folder in full."""
    shutil.copytree(base, home)
    config = home / "dagster" / "dagster.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(str(base), str(home)), encoding="utf-8")
    return home


def play(fault: Fault, base: Path, twin: Path, work: Path) -> Ending:
    """Copy ``base``, hurt it, look, mend it, and compare with ``twin``."""
    home = copy(base, work / "home")
    with ExitStack() as stack:
        place = Place(home, base, stack)
        hurt = fault.strike(place)
        command = fault.command or LOAD
        ending = Ending(fault.name, spine(place, *command), spine(place, "verify"))
        _judge(ending, fault)
        _mend(ending, place, hurt)
        again = spine(place, *command)
        if again.code != 0:
            ending.wrong.append(f"the repeated command ended with {again.code}: {again.cause}")
        if command is not LOAD and (loaded := spine(place, *LOAD)).code != 0:
            ending.wrong.append(f"a load afterwards ended with {loaded.code}: {loaded.cause}")
        for words in (("verify",), ("rebuild", "--plan")):
            if (after := spine(place, *words)).code != 0:
                ending.wrong.append(f"afterwards spine {' '.join(words)} ended with {after.code}: {after.cause}")
        ending.wrong += compared(place, twin)
    shutil.rmtree(home)
    return ending


def _judge(ending: Ending, fault: Fault) -> None:
    """Of the two answers the one that has to be an error, or a finding, is one, in words; what is told has a remedy."""
    if fault.stops_command and ending.told.code == 0:
        ending.wrong.append("the command said nothing")
    if fault.tells not in ending.told.output:
        ending.wrong.append("the command was over before it was struck")
    if fault.is_found and ending.verified.code == 0:
        ending.wrong.append("spine verify found nothing")
    for answer in (ending.told, ending.verified):
        ending.wrong += [f"{word!r} was shown: {answer.cause}" for word in RAW if word in answer.output]
    is_told = ending.told.code != 0 or ending.verified.code != 0  # a load reads the clock once: a jump may do no harm
    if is_told and not (ending.told.remedies or ending.verified.remedies):
        ending.wrong.append("no remedy was named")


def _mend(ending: Ending, place: Place, hurt: Hurt) -> None:
    """Remove the cause, or do what was printed: of the command first, else of `spine verify`."""
    if hurt.remove:
        hurt.remove()
        ending.done.append(hurt.removed)
        return
    first = ending.told if ending.told.code == 2 and ending.told.remedies else ending.verified
    remedies = first.remedies
    if any(LOOK.search(one) for one in remedies):
        ending.done.append("spine verify")
        remedies = ending.verified.remedies
    for remedy in remedies:
        ending.done += _carried_out(remedy, place)


def _carried_out(remedy: str, place: Place) -> list[str]:
    done = []
    if moved := MOVED.search(remedy):
        for path in moved[1].split():
            if Path(path).exists():
                Path(path).rename(f"{path}.away")
        done.append("control database moved away")
    if (backup := BACKUP.search(remedy)) and not COMMAND.search(remedy):
        shutil.copytree(place.base / "landing", place.home / "landing", dirs_exist_ok=True)
        done.append(f"{backup[0]}")
    if shell := SHELL.search(remedy):
        code = subprocess.run(shell[1], shell=True, check=False).returncode
        done.append(f"{shell[1]} -> {code}")
    if command := COMMAND.search(remedy):
        words = re.sub(r"^spine( --home \S+)? ", "", command[0]).split()
        answer = spine(place, *words, *(("--source", SOURCE) if words[0] in ("backfill", "run") else ()))
        done.append(f"spine {' '.join(words)} -> {answer.code}")
    return done or [f"(by hand) {remedy}"]


def compared(place: Place, twin: Path) -> list[str]:
    """Where the store is not what its undisturbed twin is: current content, and lines of deliveries accounted for."""
    wrong = []
    ours, theirs = havoc.contents(place.home, place.settings), havoc.contents(twin, {})
    if ours != theirs:
        wrong.append(f"{len(ours.items() ^ theirs.items())} partitions differ from those of the undisturbed twin")
    if lost := havoc.unaccounted(place.home, place.settings):
        wrong.append(f"lines that are neither rows nor rejects: {lost}")
    return wrong


def told(ending: Ending, width: int = 120) -> str:
    """One fault for a terminal."""
    rows = [
        ("you see", f"exit {ending.told.code}: {ending.told.cause}"),
        ("next", "; ".join(ending.told.remedies)),
        ("verify", f"exit {ending.verified.code}: {ending.verified.cause}"),
        ("next", "; ".join(ending.verified.remedies)),
        ("done", "; ".join(ending.done)),
        ("end", "; ".join(ending.wrong) or "as the undisturbed twin"),
    ]
    lines = [f"{'FAILED ' if ending.wrong else ''}{ending.fault}"]
    for name, text in rows:
        if text and not (name == "next" and not text):
            lines += _wrapped(f"  {name:<8}", text, width)
    return "\n".join(lines)


def _wrapped(head: str, text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, initial_indent=head, subsequent_indent=" " * len(head))


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the faults; exit code 1 where one did not end as it has to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="WORD", help="faults whose name has one of these words")
    chosen = parser.parse_args(arguments)
    wanted = [one for one in FAULTS if not chosen.only or any(word in one.name for word in chosen.only)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        work = Path(folder)
        base, twin = work / "base", work / "twin"
        with ExitStack() as stack:
            spine(Place(base, base, stack), "backfill", *SPAN, "--source", SOURCE)
            copy(base, twin)
            spine(Place(twin, twin, stack), *LOAD)
        for fault in wanted:
            if fault.needs_mount and not can_mount(work):
                print(f"left out, since mounting is not allowed here: {fault.name}", flush=True)
                continue
            ending = play(fault, base, twin, work)
            failed += bool(ending.wrong)
            print(told(ending), flush=True)
    print(f"{len(wanted)} faults, {failed} that did not end well")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

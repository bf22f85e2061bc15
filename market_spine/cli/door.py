"""The door itself: how errors leave it, and global options that may stand anywhere on the line.

Exit codes: 0 done, 1 not satisfied (partitions without capture, differences found), 2 wrong usage or a failure.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from contextvars import ContextVar
from typing import Any

import typer
from typer.core import TyperGroup

from market_spine.domain.errors import SpineError

DONE, NOT_SATISFIED, FAILED = 0, 1, 2
FLAGS = ("--verbose", "--traceback")
VALUED = ("--home",)
COMMAND: ContextVar[tuple[str, ...]] = ContextVar("command", default=())  # as it was given


class Door(TyperGroup):
    """The root group: prints failures as cause and next step, and takes global options after the command too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        COMMAND.set(tuple(args))
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            # Used knowingly, and pinned exactly; a user of commands can do nothing about it.
            warnings.filterwarnings("ignore", message=r"(?s).*currently in (beta|preview)")
            warnings.filterwarnings("ignore", message=r"Property `OpDefinition.version` is deprecated")
            try:
                return super().invoke(ctx)
            except SpineError as error:
                told(error, _wants_traceback(ctx))
                raise typer.Exit(FAILED) from error
            except Exception as error:
                # Typer's own (usage errors, exits) and a closed pipe are Typer's to handle.
                if type(error).__module__.startswith("typer") or isinstance(error, BrokenPipeError):
                    raise
                unexpected(error, _wants_traceback(ctx))
                raise typer.Exit(FAILED) from error


def hoisted(args: list[str]) -> list[str]:
    """``args`` with the global options first, wherever before ``--`` they stood."""
    end = args.index("--") if "--" in args else len(args)
    first: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        if word in FLAGS or word.startswith(tuple(f"{name}=" for name in VALUED)):
            first.append(word)
        elif word in VALUED:
            first += [word, *[value for value in [next(words, None)] if value is not None]]
        else:
            rest.append(word)
    return [*first, *rest, *args[end:]]


def _wants_traceback(ctx: Any) -> bool:
    return bool(getattr(ctx.obj, "traceback", False))


def told(error: SpineError, with_traceback: bool = False) -> None:
    """An expected failure on stderr: the cause, and what to do next."""
    from market_spine.cli.output import advise, errors

    if with_traceback:
        traceback.print_exception(error, file=sys.stderr)
    console = errors()
    console.print(f"[bold red]error:[/] {_plain(error.cause)}", soft_wrap=True)
    advise(error.remedy)


def unexpected(error: BaseException, with_traceback: bool) -> None:
    """A failure that nobody foresaw: one line, and where the details are."""
    from market_spine.cli.output import errors

    if with_traceback:
        traceback.print_exception(error, file=sys.stderr)
    text = str(error).strip().splitlines()
    console = errors()
    console.print(f"[bold red]unexpected {type(error).__name__}:[/] {_plain(text[0] if text else '')}", soft_wrap=True)
    if not with_traceback:
        console.print("  [bold]next:[/] repeat the command with --traceback for the details", soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)

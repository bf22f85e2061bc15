"""Looking after a store: `init`, `publish`, `verify`, `rebuild`, `gc`."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.door import NOT_SATISFIED
from market_spine.cli.output import HOME, Format, FormatOption, Listing, code, escaped, many, note, say, show, step
from market_spine.domain.errors import SpineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market_spine.store.differences import Difference
    from market_spine.store.store import Store

WHOLE = "everything is there, whole and unaltered"
NEXT = {
    "spine demo": "the whole way, offline, in a home of its own",
    "spine backfill --weeks-back 4": "the newest four weeks of the source",
    "spine catalog": "what there is to run and to read",
}
database = typer.Typer(name="db", no_args_is_help=True, help="The control database.")


@database.command("init")
def db_init(ctx: typer.Context) -> None:
    """The same as spine init.

    Example: spine db init
    """
    init(ctx)


def init(ctx: typer.Context) -> None:
    """Create the store and its signing key, bring its schema up to date, put dagster.yaml in place. May be repeated.

    Example: spine init
    """
    from market_spine.cli.state import dagster_home, prepare_dagster, settings_of
    from market_spine.governance.keys import Keys
    from market_spine.settings import build_spine

    store = build_spine(settings_of(ctx.obj)).store
    applied = store.ensure()
    key_id = Keys.of(store.home).ensure()
    folder = dagster_home(store)
    is_new = prepare_dagster(folder)
    facts = {
        "home": str(store.home.root),
        "control": repr(store.control).removeprefix("Control(").removesuffix(")"),
        "migrations": ", ".join(applied) if applied else "none to apply",
        "key": f"{key_id[:12]}... in {store.home.keys}",
        "dagster": f"{folder / 'dagster.yaml'}{' (written)' if is_new else ''}",
    }
    for name, value in facts.items():
        code(f"{name:<12}{value}")
    say("\n[bold]next[/]")
    for command, what in NEXT.items():
        code(f"  {step(command)}  # {what}")
    home = f"MARKET_SPINE_HOME={shlex.quote(str(store.home.root))} " if HOME.get() else ""
    code(f"  {home}DAGSTER_HOME={shlex.quote(str(folder))} dagster dev")


def publish(ctx: typer.Context) -> None:
    """Build market_spine.duckdb anew: every table and view in one file, for people and BI tools.

    Example: spine publish
    """
    from market_spine.assets.reading import publish_all
    from market_spine.cli.state import open_store, settings_of

    path = publish_all(open_store(settings_of(ctx.obj)))
    say(f"published {escaped(str(path))} ({path.stat().st_size:,} bytes)")


def verify(ctx: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """Check capture files, landed objects, the journal and certificates. Exit code 1 where something differs.

    Example: spine verify
    """
    from market_spine.assets.wholeness import everything
    from market_spine.cli.state import open_store, settings_of

    store = open_store(settings_of(ctx.obj))
    differences(store, everything(store), form, WHOLE)


def rebuild(
    ctx: typer.Context,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only make everything again and compare; exchange nothing.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Make every capture and control row again from landing alone, compare, and exchange them if all agree.

    Example: spine rebuild --plan
    """
    from market_spine.assets.reading import publish_all
    from market_spine.assets.rebuild import rebuild as replay
    from market_spine.assets.wholeness import look_through
    from market_spine.cli.state import feeds, settings_of
    from market_spine.settings import build_spine
    from market_spine.store.ledger import Run

    spine = build_spine(settings_of(ctx.obj))
    if not spine.store.home.journal.is_dir():
        raise SpineError(
            f"there is no journal in {spine.store.home.root}", "name the store with --home, or begin with: spine init"
        )
    report = replay(spine, feeds(), swap=not plan)
    if report.swapped:
        publish_all(spine.store)  # the one that is there names files which are no longer the store's
    if form is Format.TABLE:
        say(f"{report.rebuilt:,} captures made again and compared, {report.kept:,} kept as they are")
        if report.swapped and report.ailment:
            say(f"{escaped(report.ailment)}; made anew")
        if report.kept_database:
            say("the old one is kept, to be looked into or removed:")
            code(f"  {report.kept_database}")
    if report.swapped:
        look_through(spine.store, feeds()[0], Run.of_look("rebuild", spine.clock()))  # closes what was told of damage
    did = "exchanged for the old ones" if report.swapped else "nothing exchanged"
    differences(spine.store, report.differences, form, f"all of them agree; {did}")


def differences(store: Store, found: Sequence[Difference], form: Format, agreed: str) -> None:
    """Each thing that is not as recorded, and the exit code that says so; ``agreed`` where there is none."""
    found = [replace(one, remedy=_placed(one.remedy, store)) for one in found]
    columns = ["kind", "name", "detail", "remedy"]
    rows = [list(asdict(one).values()) for one in found]
    listing = Listing(columns, rows, wrapped=frozenset({"name", "detail", "remedy"}), empty=agreed)
    if form is Format.TABLE and found:
        _tell(found)
    else:
        show(listing, form)
    if found:
        note(f"[red]{many(len(found), 'difference')}[/]")
        raise typer.Exit(NOT_SATISFIED)


def _placed(remedy: str, store: Store) -> str:
    """``remedy`` for this store, wherever it is pasted: with the files that are to be moved."""
    from market_spine.store.differences import MOVE

    files = " ".join(shlex.quote(str(path)) for path in store.control.files)
    return step(remedy.replace(MOVE, f"{MOVE} ({files})") if files else remedy)


def _tell(found: Sequence[Difference]) -> None:
    """Thing by thing; a remedy that several in a row share stands once, after the last of them."""
    for remedy, same in groupby(found, lambda one: one.remedy):
        for (kind, name), of_one in groupby(same, lambda one: (one.kind, one.name)):
            say(f"[red]{kind}[/] {escaped(name)}")
            for one in of_one:
                code(f"  {one.detail}")
        code(f"  next: {remedy}")


def gc(
    ctx: typer.Context,
    grace: Annotated[float, typer.Option("--grace-hours", min=1, help="Younger files are left alone.")] = 24,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List, and remove nothing.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Sweep files that nothing refers to: left-overs of killed writers. What the manifest names is never touched.

    Publishes first where there is a published file, since an old one may name what is about to be swept.

    Example: spine gc --dry-run
    """
    from market_spine.assets.reading import publish_again
    from market_spine.cli.state import open_store, settings_of
    from market_spine.settings import clock
    from market_spine.store.gc import collect

    store = open_store(settings_of(ctx.obj))
    if not dry_run:
        publish_again(store)
    found = collect(store, clock(), timedelta(hours=grace), dry_run)
    rows = [[str(path.relative_to(store.home.root))] for path in found.files]
    show(Listing(["file"], rows, wrapped=frozenset({"file"}), empty="nothing to sweep"), form)
    if rows and form is Format.TABLE:
        say(f"{len(rows):,} files, {found.size:,} bytes {'would be ' if dry_run else ''}removed")
    if found.younger:
        note(f"{many(found.younger, 'younger file')} that nothing refers to: swept when {grace:g} hours old")

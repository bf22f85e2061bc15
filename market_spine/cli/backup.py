"""`spine backup` and `spine restore`: a copy of what cannot be made again, and a store made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.output import Format, FormatOption, Listing, code, hanging, note, show, step

if TYPE_CHECKING:
    from market_spine.store.backup import Made, Record
    from market_spine.store.differences import Difference
    from market_spine.store.store import Store

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the backup.", show_default=False)]
TOLD = 12  # characters before the text of a line


def backup(
    ctx: typer.Context,
    folder: FolderArgument,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Also the signing key, and the addresses of channels.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Copy deliveries, journal, captures and public keys to FOLDER, while others write. What is there already stays.

    Dagster's own record is left out: captures do not depend on it.

    Example: spine backup backups/market-spine
    """
    from market_spine import __version__
    from market_spine.cli.state import collected, open_store, settings_of
    from market_spine.governance.keys import PRIVATE
    from market_spine.settings import clock
    from market_spine.store.backup import backup as copy

    store = open_store(settings_of(ctx.obj))
    secrets = (store.home.keys / PRIVATE, store.home.channels)
    target = folder.expanduser().absolute()
    collected(store)  # what was used is backed up as rows
    made = copy(store, target, clock(), __version__, secrets, _policies(), with_secrets, _check_landing)
    if form is not Format.TABLE:
        facts = _facts(target, made)
        show(Listing(list(facts), [list(facts.values())]), form)
        return
    _tell(target, made)


def _check_landing(folder: Path) -> list[Difference]:
    """What is wrong with a landing, each thing by its path."""
    from market_spine.sources.landing import Landing
    from market_spine.store.differences import Difference

    found = Landing(str(folder)).verify()
    return [Difference("landing", str(folder / one.name), one.reason, one.override) for one in found]


def _policies() -> dict[str, bytes]:
    """Every policy file that is in force, by its path below policies/."""
    from importlib.resources import files

    from market_spine.cli.state import feeds

    folders = {feed.name: files("market_spine.feeds").joinpath(feed.name) for feed in feeds()}
    return {
        f"{name}/{file.name}": file.read_bytes()
        for name, folder in folders.items()
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
    }


def _facts(folder: Path, made: Made) -> dict[str, object]:
    record = made.record
    return {
        "folder": str(folder),
        "seq": record.seq,
        "committed_at": record.committed_at,
        "files": record.files,
        "bytes": record.bytes,
        "copied_files": made.copied,
        "copied_bytes": made.copied_bytes,
        "captures": made.captures,
        "current_captures": made.current,
        "has_secrets": record.has_secrets,
        "list_sha256": record.list_sha256,
    }


def _tell(folder: Path, made: Made) -> None:
    record = made.record
    code(f"{'backup':<{TOLD}}{folder}")
    _line("state", _state(record))
    _line("files", f"{record.files:,}, {_megabytes(record.bytes)}, of which {made.copied:,} were copied now")
    _line("captures", f"{made.captures:,}, of which {made.current:,} are current")
    _line("secrets", "the signing key and the channels" if record.has_secrets else "none; --with-secrets adds them")


def _megabytes(size: int) -> str:
    return f"{-(-size // 1_000_000):,} MB"


def _state(record: Record) -> str:
    when = f" of {record.committed_at[:19].replace('T', ' ')} UTC" if record.committed_at else ""
    return f"transaction {record.seq:,}{when}"


def _line(name: str, text: str) -> None:
    hanging(f"{name:<{TOLD}}", text)


def restore(ctx: typer.Context, folder: FolderArgument, form: FormatOption = Format.TABLE) -> None:
    """Make a store of the backup in FOLDER: in the home, which must be empty, and the control database, likewise.

    Verifies every file first, and the whole store at the end. Exit code 1 where something differs.

    Example: spine --home restored restore backups/market-spine
    """
    from market_spine.assets.wholeness import everything
    from market_spine.cli.care import WHOLE, differences
    from market_spine.cli.state import settings_of
    from market_spine.store.restore import finish
    from market_spine.store.restore import restore as put_back
    from market_spine.store.store import Store

    settings = settings_of(ctx.obj)
    store = Store.at(settings.home, settings.control_url.get_secret_value(), settings.threads)
    source = folder.expanduser().absolute()
    done = put_back(store, source)
    found = [*done.differences, *everything(store)]
    if found:
        note(f"the home stays marked as unfinished; to use it as it is: rm {store.home.unfinished}")
    differences(store, found, form, WHOLE)
    finish(store)
    _declare_and_publish(store)
    if form is Format.TABLE:
        _line("restored", f"{_state(done.record)}: {done.captures:,} captures, of which {done.current:,} are current")
        _tell_secrets(store, done.record)
        for name in sorted(name for name, data in _policies().items() if _differs(source / "policies" / name, data)):
            note(f"policies/{name} of the backup is not the one that this code has")
        code(f"  next: {step('spine init; spine doctor otc')}")


def _declare_and_publish(store: Store) -> None:
    """What no journal holds, since it follows from the code and from the rest."""
    from market_spine.assets.reading import publish_all
    from market_spine.automation.declare import declare
    from market_spine.cli.state import feeds

    for feed in feeds():
        declare(store, feed)
    publish_all(store)


def _differs(path: Path, data: bytes) -> bool:
    return not path.is_file() or path.read_bytes() != data


def _tell_secrets(store: Store, record: Record) -> None:
    if record.has_secrets:
        return
    _line(
        "secrets",
        "none in the backup: the next certificate makes a new key, and earlier ones can still be verified; channels "
        f"are to be written anew ({store.home.channels.name})",
    )

"""`spine certificates`: which weeks were certified for what, on which evidence, and whether that is still whole."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.care import differences
from market_spine.cli.options import LimitOption, WeekOption, week_of
from market_spine.cli.output import Format, FormatOption, Listing, cell, code, limited, many, say, show
from market_spine.domain.errors import QueryError, SpineError, StoreError

if TYPE_CHECKING:
    from market_spine.governance.keys import Keys

app = typer.Typer(
    name="certificates", no_args_is_help=True, help="Readiness certificates: list them, show one, verify all."
)
SEE = "see the ids with: spine certificates list --all"
SHORT = 12  # digits of an id, a hash or a key on the screen; the beginning of an id is enough for every command
HEX = re.compile("[0-9a-f]{32}|[0-9a-f]{64}")
NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]+)?")  # exact numbers are text in a certificate
MOMENT = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:.]{8,15}(Z|\+00:00)")
# Columns of evidence that tell rows apart come first: a narrow screen cuts from the right.
FIRST = (
    "name",
    "domain",
    "week_ending",
    "ready_for",
    "table",
    "tier",
    "revision",
    "row_count",
    "capture_id",
    "content_hash",
)
HEADERS = {"revision": "rev", "row_count": "rows", "capture_id": "capture", "content_hash": "content"}

ReadyForOption = Annotated[
    str | None, typer.Option("--ready-for", metavar="USE_CASE", help="trading, compliance or research.")
]
IdArgument = Annotated[
    str | None, typer.Argument(metavar="[ID]", help="Its id or the beginning of it; else the newest week's.")
]
SignatureOption = Annotated[
    Path | None, typer.Option("--signature", metavar="FILE", help="Put its signature there (64 bytes).")
]


@app.command("list")
def list_(
    ctx: typer.Context,
    week: WeekOption = None,
    ready_for: ReadyForOption = None,
    every: Annotated[bool, typer.Option("--all", help="Superseded ones too.")] = False,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List certificates, the newest week first: those in force, or every one.

    Example: spine certificates list --all
    """
    rows = [
        [
            one["week_ending"],
            one["ready_for"],
            _state(one),
            one["issued_at"],
            one["certificate_id"][:SHORT],
            one["issued_by"],
            *(one[name] for name in ("domain", "certificate_id", "key_id", "signature")),
        ]
        for one in _listed(ctx, week, ready_for, every)
    ]
    shown = ["week_ending", "ready_for", "state", "issued_at", "id", "by"]  # a narrow screen cuts from the right
    extra = ["domain", "certificate_id", "key_id", "signature"]
    limited(Listing([*shown, *extra], rows, extra=frozenset(extra), empty="no certificates"), form, limit)


@app.command("show")
def show_(
    ctx: typer.Context,
    certificate: IdArgument = None,
    week: WeekOption = None,
    ready_for: ReadyForOption = None,
    signature: SignatureOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one certificate: its criteria, its evidence, and what became of it.

    With --format json: exactly the bytes that were signed. Anybody can check them without this program (OpenSSL 3):

    \b
    spine certificates show ID --format json --signature c.sig > c.json
    spine certificates key KEY --out k.pem
    sha256sum c.json
    openssl pkeyutl -verify -pubin -inkey k.pem -rawin -in c.json -sigfile c.sig

    The sum is the certificate's id. KEY is shown with the certificate; the id of a key is the sha256 of its 32 bytes.

    Example: spine certificates show

    Example: spine certificates show --week-ending 2025-11-07 --ready-for trading
    """
    chosen = _chosen(_listed(ctx, week, ready_for, every=certificate is not None), certificate)
    if chosen is None:
        if form is not Format.TABLE:
            raise QueryError("no certificate is in force for that", SEE)
        say("[dim]no certificate is in force for that[/]")
        return
    _refuse_altered(chosen)
    if signature is not None:
        _write(signature, bytes.fromhex(chosen["signature"]))
    if form is Format.JSON:
        typer.echo(chosen["document"].encode(), nl=False)
    elif form is Format.CSV:
        show(Listing([*chosen], [[*chosen.values()]]), form)
    else:
        _tell(ctx, chosen)


@app.command()
def verify(ctx: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """Check every document, signature and link of the chain, against the journal and the captures they rest on.

    Exit code 1 where something differs.

    Example: spine certificates verify
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.governance.certificates import verify as check
    from market_spine.store.certificates import counts

    store = open_store(settings_of(ctx.obj))
    with store.control.read() as connection:
        certificates, links = counts(connection)
    found = check(store)
    if not found and form is Format.TABLE:
        say(f"{many(certificates, 'certificate')}, {many(links, 'link')}: all whole")
    else:
        differences(store, found, form, "")


@app.command()
def key(
    ctx: typer.Context,
    key_id: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Id of a key or its beginning; else the one that signs now.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Put the PEM there.")] = None,
) -> None:
    """Print the public key for others to verify with, and its id. It is made where there is none yet.

    Example: spine certificates key

    Example: spine certificates key --out k.pem
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.governance.keys import Keys

    keys = Keys.of(open_store(settings_of(ctx.obj)).home)
    chosen = _key(keys, key_id.lower()) if key_id else keys.ensure()
    pem = keys.public(chosen).pem
    if out is not None:
        _write(out, pem)
    else:
        code(pem.decode().rstrip())
    code(f"key_id {chosen}")


def _key(keys: Keys, text: str) -> str:
    """The id of the key that ``text`` begins."""
    found = [one for one in keys.public_ids() if one.startswith(text)]
    if len(found) != 1:
        raise QueryError(f"{len(found) or 'no'} keys begin with {text!r}", f"{keys.folder} has all of them")
    return found[0]


def _listed(ctx: typer.Context, week: str | None, ready_for: str | None, every: bool) -> list[dict[str, Any]]:
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store.certificates import listed

    with open_store(settings_of(ctx.obj)).control.read() as connection:
        return listed(connection, week_of(week), ready_for, every)


def _chosen(rows: Sequence[dict[str, Any]], text: str | None) -> dict[str, Any] | None:
    """The certificate whose id ``text`` begins; without it: the first, if any."""
    if text is None:
        return rows[0] if rows else None
    found = [row for row in rows if row["certificate_id"].startswith(text.lower())]
    if len(found) != 1:
        raise QueryError(f"{len(found) or 'no'} certificates begin with {text!r}", SEE)
    return found[0]


def _refuse_altered(row: Mapping[str, Any]) -> None:
    """What is shown is what was certified, or nothing."""
    if hashlib.sha256(row["document"].encode()).hexdigest() != row["certificate_id"]:
        raise StoreError(f"certificate {row['certificate_id'][:SHORT]} was altered", "spine certificates verify")


def _state(row: Mapping[str, Any]) -> str:
    return "in force" if row["is_in_force"] else "superseded"


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise SpineError(f"cannot write {path}: {error.strerror}", "name a file in a folder that is there") from error


def _tell(ctx: typer.Context, chosen: Mapping[str, Any]) -> None:
    """A certificate for people: facts, a table for each part of the document, and the chain."""
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store.certificates import history

    content = json.loads(chosen["document"])
    facts = {name: _seen(content[name], name) for name in sorted(content, key=_in_order) if _is_fact(content[name])}
    top = {"certificate": chosen["certificate_id"], "state": _state(chosen), "key": chosen["key_id"]}
    for name, value in (top | facts).items():
        code(f"{name:<13}{cell(value)}")
    for listing in _parts("", {name: value for name, value in content.items() if name not in facts}):
        say("")
        show(listing)
    with open_store(settings_of(ctx.obj)).control.read() as connection:
        links = history(connection, chosen["certificate_id"])
    names = ("seq", "event", "logged_at", "actor", "reason")
    say("")
    show(Listing(names, [[one[name] for name in names] for one in links], "History", wrapped=frozenset({"reason"})))


def _parts(path: str, value: Any) -> Iterator[Listing]:
    """Tables for a part of a document, whatever its shape: rows of objects, objects by name, or names and values."""
    title = path.strip().capitalize()
    if isinstance(value, list):
        yield _objects(title, [one if isinstance(one, dict) else {"value": one} for one in value])
        return
    plain = {name: one for name, one in value.items() if _is_plain(one)}
    if plain:
        rows = [[name, _seen(one, name)] for name, one in plain.items()]
        yield Listing(["name", "value"], rows, title, wrapped=frozenset({"value"}))
    deep = {name: one for name, one in value.items() if name not in plain}
    shapes = {
        tuple(one) if isinstance(one, dict) and all(map(_is_plain, one.values())) else () for one in deep.values()
    }
    if len(deep) > 1 and len(shapes) == 1 and () not in shapes:
        yield _objects(title, [{"name": name} | one for name, one in deep.items()])
        return
    for name, one in deep.items():
        yield from _parts(f"{path} {name}", one)


def _objects(title: str, rows: Sequence[Mapping[str, Any]]) -> Listing:
    """A table of objects: one column for each name that any of them has."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = sorted(names, key=_in_order)
    cells = [[_seen(row.get(name), name) for name in columns] for row in rows]
    return Listing(columns, cells, title, headers=HEADERS)


def _in_order(name: str) -> tuple[int, str]:
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)


def _is_fact(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _is_plain(value: Any) -> bool:
    """Whether a value fits one cell."""
    return _is_fact(value) or (isinstance(value, list) and all(map(_is_fact, value)))


def _seen(value: Any, name: str = "") -> Any:
    """A value of a document as people read it: ids and hashes by their beginning, numbers and moments as such."""
    if isinstance(value, list):
        return ", ".join(str(cell(_seen(one, name))) for one in value)
    if not isinstance(value, str) or name.endswith("version"):
        return value
    if name == "capture_id":
        return hashlib.sha256(value.encode()).hexdigest()[:8]  # as in spine captures
    if HEX.fullmatch(value):
        return value[:SHORT]
    if NUMBER.fullmatch(value):
        return Decimal(value)
    return datetime.fromisoformat(value) if MOMENT.fullmatch(value) else value

"""Readiness certificates: what a week was certified on, signed, and the chain of what became of each certificate.

What belongs here: issuing, superseding, and proving that nothing was altered since. What does not: whether a week is
ready and what its document says (the caller's ``content``), and keys (`keys`).

A document is canonical JSON (RFC 8785) and says nothing of when, by whom or in which run it was issued, so that the
same captures give the same bytes, the same id (their sha256) and the same signature (Ed25519 over those bytes). When,
by whom and why are in the chain: the ``entry_hash`` of a link is the sha256 of the canonical JSON of `HASHED`, and its
64 hex digits are signed. Nothing is ever updated or deleted.

What no check inside the store can show: the end of the chain removed from the database and from the journal alike
(whoever must exclude that keeps the last entry_hash elsewhere), and whose hands the key was in.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import rfc8785

from market_spine.domain.errors import StoreError
from market_spine.domain.trust import CertificateEvent
from market_spine.governance.keys import Keys, PublicKey
from market_spine.store import certificates as rows_of
from market_spine.store import differences, journal
from market_spine.store.certificates import Texts
from market_spine.store.columns import moment_of, moment_text
from market_spine.store.differences import Difference
from market_spine.store.ledger import Draft, newest_seq
from market_spine.store.store import Store
from market_spine.store.verify import beyond

FORMAT = "market-spine-certificate/1"
NAMED = ("domain", "week_ending", "ready_for")  # in the document, and columns of its row
HASHED = ("seq", "event", "certificate_id", "reason", "actor", "logged_at", "previous_hash")
FIRST = "0" * 64  # what stands before the first link
EXACT = 2**53  # whole numbers below it are exact in every reader of JSON
LISTED = 6  # things named in one difference
MOVING = frozenset({"status", "is_current", "file_path"})  # what becomes of a capture is not what it is
SEE = "see what there is with: spine certificates list --all"
RESTORE = f"{differences.RESTORE}; where that was altered too, restore both from a backup"


def canonical(value: Any) -> bytes:
    """``value`` as RFC 8785 has it; StoreError for what it cannot hold (NaN, whole numbers beyond 2^53 - 1, dates)."""
    try:
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:  # UnicodeEncodeError, of half a surrogate pair in a key, is one too
        raise StoreError(
            f"not JSON of a certificate (RFC 8785): {error}",
            "write the value as text: exact decimals, moments as ISO 8601, no NaN",
        ) from error


def certificate_id(*, domain: str, week_ending: date, ready_for: str, content: Mapping[str, Any]) -> str:
    """The id that `issue` gives to the same arguments."""
    return hashlib.sha256(_document(domain, week_ending, ready_for, content)).hexdigest()


def _document(domain: str, week_ending: date, ready_for: str, content: Mapping[str, Any]) -> bytes:
    added = {"format": FORMAT, "domain": domain, "week_ending": week_ending.isoformat(), "ready_for": ready_for}
    if twice := sorted(added.keys() & content.keys()):
        raise StoreError(
            f"the content of a certificate has its own {', '.join(twice)}", "leave them to the certificate"
        )
    document = canonical({**content, **added})
    _evidence(parsed(document))
    return document


def issue(
    draft: Draft,
    keys: Keys,
    *,
    domain: str,
    week_ending: date,
    ready_for: str,
    content: Mapping[str, Any],
    actor: str,
    reason: str,
) -> str:
    """Put a certificate in force; its id, which is the same for the same arguments up to ``content``.

    ``content["evidence"]["captures"]`` lists what it rests on: ``capture_id``, and columns of core_manifest.
    StoreError where a certificate for that week and use case is in force, or JSON cannot hold ``content``.
    """
    document = _document(domain, week_ending, ready_for, content)
    identity = hashlib.sha256(document).hexdigest()
    if held := in_force(draft, domain, week_ending, ready_for):
        raise StoreError(
            f"certificate {held[:12]} is in force for {domain} {week_ending} {ready_for}", "supersede it before another"
        )
    if not rows_of.events_of(draft, identity):
        signed = keys.sign(document)
        row = {"domain": domain, "week_ending": week_ending, "ready_for": ready_for, "document": document.decode()}
        row |= {"certificate_id": identity, "signature": signed.text, "key_id": signed.key_id}
        rows_of.put(draft, row)
    _link(draft, keys, identity, CertificateEvent.ISSUED, actor, reason)
    return identity


def supersede(draft: Draft, keys: Keys, certificate_id: str, actor: str, reason: str) -> None:
    """Take a certificate out of force; it stays on record. StoreError where it is unknown or not in force."""
    events = rows_of.events_of(draft, certificate_id)
    if not events:
        raise StoreError(f"there is no certificate {certificate_id}", SEE)
    if events[-1] != CertificateEvent.ISSUED:
        raise StoreError(f"certificate {certificate_id[:12]} is not in force: it was superseded before", SEE)
    _link(draft, keys, certificate_id, CertificateEvent.SUPERSEDED, actor, reason)


def in_force(draft: Draft, domain: str, week_ending: date, ready_for: str) -> str | None:
    """The id of the certificate that is in force for a week and use case, if any."""
    ids = rows_of.ids_for(draft, domain, week_ending, ready_for)
    return next((one for one in ids if rows_of.events_of(draft, one)[-1:] == [CertificateEvent.ISSUED]), None)


def _link(draft: Draft, keys: Keys, identity: str, event: CertificateEvent, actor: str, reason: str) -> None:
    last = rows_of.last_link(draft)
    entry = {
        "seq": 1 + (last["seq"] if last else 0),
        "event": event.value,
        "certificate_id": identity,
        "reason": reason,
        "actor": actor,
        "logged_at": moment_text(draft.run.now),
        "previous_hash": last["entry_hash"] if last else FIRST,
    }
    entry_hash = hashlib.sha256(canonical(entry)).hexdigest()
    signed = keys.sign(entry_hash.encode())
    seal = {"entry_hash": entry_hash, "signature": signed.text, "key_id": signed.key_id}
    rows_of.put_link(draft, entry | {"logged_at": draft.run.now} | seal)


def verify(store: Store, with_journal: bool = True) -> list[Difference]:
    """Everything about certificates that is not as it was committed and signed; names each thing that is not.

    Documents, signatures and links are recomputed, both tables compared with the journal, and the captures that each
    document names with the manifest. Not ``with_journal`` where the whole of it is compared anyway (`store.verify`).
    """
    with store.control.read() as connection:
        last = newest_seq(connection)
        certificates, links = (rows_of.texts(connection, table) for table in rows_of.TABLES)
        proof = _Proof(Keys.of(store.home), certificates, links)
        proof.check()
        cited = [one["capture_id"] for one, _ in proof.evidence]
        proof.compare_evidence(rows_of.captures(connection, cited))
    if with_journal:  # after the tables: what is committed meanwhile is in it already, and is not yet asked for
        proof.compare_journal(store, last)
    return proof.found


@dataclass
class _Proof:
    """One pass over certificates and links as bare text. ``evidence``: captures, each with who names it."""

    keys: Keys
    certificates: Sequence[Texts]
    links: Sequence[Texts]
    found: list[Difference] = field(default_factory=list)
    evidence: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    public: dict[str, PublicKey | StoreError] = field(default_factory=dict)
    unproved: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # by the key that is not there

    def check(self) -> None:
        """Certificates and links by themselves, and against each other."""
        for row in self.certificates:
            self._tell("certificate", row["certificate_id"], self._ailments(row))
        previous, expected = FIRST, 1
        for row in self.links:
            self._tell("link", row["seq"], self._breaks(row, previous, expected))
            previous, expected = row["entry_hash"], int(row["seq"]) + 1
        known = {row["certificate_id"] for row in self.certificates}
        linked = {row["certificate_id"] for row in self.links}
        for name in sorted(known - linked):
            self._tell("certificate", name, ["the chain has no link to it"])
        for name in sorted(linked - known):
            self._tell("certificate", name, ["the chain has links to it, and it is not there"])
        self._tell_of_keys()

    def _tell(self, kind: str, name: str, details: Iterable[str], remedy: str = RESTORE) -> None:
        self.found += [Difference(kind, _shown(name), _shown(detail), remedy) for detail in details]

    def _ailments(self, row: Texts) -> Iterator[str]:
        """What is wrong with one certificate by itself."""
        document = row["document"].encode("utf-8", "surrogateescape")
        if (found := hashlib.sha256(document).hexdigest()) != row["certificate_id"]:
            yield f"its document was altered: it has the id {found[:12]}..."
        if not self._is_signed(row, document, "certificate", row["certificate_id"]):
            yield "its signature is not of this document and key"
        try:
            content = parsed(document)
            cited = _evidence(content)
        except StoreError as error:
            yield f"its document was altered: {error.cause}"
            return
        if differing := [name for name in NAMED if row[name] != content.get(name)]:
            yield f"its document says otherwise: {', '.join(f'{name} {content.get(name)}' for name in differing)}"
        self.evidence += [(one, row["certificate_id"]) for one in cited]

    def _breaks(self, row: Texts, previous: str, expected: int) -> Iterator[str]:
        """What is wrong with one link, and between it and the one before."""
        if int(row["seq"]) != expected:
            yield f"link {expected} is due in its place"
        if row["previous_hash"] != previous:
            yield "it does not follow on the link before it: one of the two was altered or left out"
        try:
            entry = {name: row[name] for name in HASHED} | {"seq": int(row["seq"])}
            hashed = hashlib.sha256(canonical(entry)).hexdigest()
        except StoreError:  # what was spoilt has no canonical form, so no hash either
            hashed = ""
        if hashed != row["entry_hash"]:
            yield "it was altered: its hash is not that of its contents"
        if not self._is_signed(row, row["entry_hash"].encode("utf-8", "surrogateescape"), "link", row["seq"]):
            yield "its signature is not of this hash and key"

    def _is_signed(self, row: Texts, data: bytes, kind: str, name: str) -> bool:
        """False for a wrong signature. Where the key is not there, that is told instead, with what it leaves open."""
        key_id = row["key_id"]
        if key_id not in self.public:
            try:
                self.public[key_id] = self.keys.public(key_id)
            except StoreError as error:
                self.public[key_id] = error
        key = self.public[key_id]
        if isinstance(key, StoreError):
            self.unproved[key_id].append(f"{kind} {name}")
            return True
        return key.has_signed(data, row["signature"])

    def _tell_of_keys(self) -> None:
        for key_id, names in self.unproved.items():
            error, more = self.public[key_id], f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            if isinstance(error, StoreError):
                detail = f"{error.cause}; it leaves unproved: {', '.join(names[:LISTED])}{more}"
                self._tell("key", key_id, [detail], error.remedy)

    def compare_evidence(self, held: Mapping[str, Texts]) -> None:
        """The captures that documents name against the manifest, in all that both say of them."""
        for cited, certificate_id in self.evidence:
            capture_id = cited["capture_id"]
            row = held.get(capture_id)
            if row is None:
                wrong = [f"it rests on capture {capture_id}, which the manifest does not have"]
            else:
                said = cited | ({"table_name": cited["table"]} if "table" in cited else {})
                shared = sorted(said.keys() & row.keys() - MOVING)
                wrong = [
                    f"it rests on capture {capture_id} with {name} {said[name]}; the manifest says {row[name]}"
                    for name in shared
                    if not _is_same(str(said[name]), row[name])
                ]
            self._tell(
                "certificate", certificate_id, wrong, "spine rebuild --plan  # makes every capture again and compares"
            )

    def compare_journal(self, store: Store, last: int) -> None:
        """Both tables against the journal. ``last``: the newest transaction that the tables were read with."""
        folder = store.home.journal
        try:
            entries = list(journal.read(folder, rows_of.TABLES))
        except StoreError as error:
            self._tell("journal", folder.name, [error.cause], error.remedy)
            return
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # JSON, but not that of an entry
            detail = f"an entry below {folder} was altered: {error!r}"
            self._tell("journal", folder.name, [detail], "restore the landing folder from a backup")
            return
        self.found += beyond(store, entries[-1].seq if entries else 0)
        held = (self.certificates, self.links)
        for kind, table, rows in zip(("certificate", "link"), rows_of.TABLES, held, strict=True):
            self._compare_rows(kind, table.primary_key.columns[0].name, rows, rows_of.journalled(entries, table), last)

    def _compare_rows(
        self, kind: str, key: str, rows: Sequence[Texts], written: Sequence[tuple[int, Texts]], last: int
    ) -> None:
        recorded: dict[str, list[Texts]] = defaultdict(list)
        for _, row in written:
            recorded[row[key]].append(row)
        for row in rows:
            if not recorded[row[key]]:
                self._tell(kind, row[key], ["the journal does not have it: nobody committed it"])
            for other in recorded[row[key]]:
                if changed := [name for name in row if row[name] != other.get(name)]:
                    self._tell(kind, row[key], [f"the journal has another {', '.join(changed)}"])
        there = {row[key] for row in rows}
        for seq, row in written:
            if seq <= last and row[key] not in there:
                self._tell(kind, row[key], ["the journal has it, the control database has not"])


def parsed(document: bytes) -> dict[str, Any]:
    """What ``document`` says; StoreError where it is not exactly the canonical JSON of an object."""
    try:
        found = json.loads(document, parse_int=_number)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"it is not JSON ({error})", RESTORE) from error
    if not isinstance(found, dict) or canonical(found) != document:
        raise StoreError("it is not in canonical form", RESTORE)
    return found


def _is_same(said: str, held: str) -> bool:
    """Whether two texts are equal, or the same moment: a document has it with the +00:00 of ISO 8601."""
    try:
        return said == held or moment_of(said) == moment_of(held)
    except ValueError:
        return False


def _number(digits: str) -> int | float:
    """RFC 8785 writes 1e20 as a whole number; it was never an exact one."""
    number = int(digits)
    return number if abs(number) < EXACT else float(digits)


def _evidence(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The captures that a document rests on; StoreError where they are not listed as such."""
    evidence = content.get("evidence", {})
    listed = evidence.get("captures", []) if isinstance(evidence, dict) else None
    if not isinstance(listed, list) or not all(
        isinstance(one, dict) and isinstance(one.get("capture_id"), str) for one in listed
    ):
        raise StoreError(
            'its content["evidence"]["captures"] is not a list of captures', "name each with its capture_id"
        )
    return listed


def _shown(text: str) -> str:
    """What was spoilt must not spoil the terminal too."""
    return text if text.isprintable() else ascii(text)

"""The key that certificates are signed with: one Ed25519 pair per store, as PEM files that other programs read too.

What belongs here: making, keeping and using keys. What does not: what is signed (`certificates`).

The private key is ``signing.pem``. Every public key that ever signed stays beside it under its id, so that what a lost
or replaced key signed can still be verified. The id of a key is the sha256 of its 32 public bytes.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from market_spine.domain.errors import StoreError
from market_spine.store.files import fsync_folder, make_folder, write_whole
from market_spine.store.home import Home
from market_spine.store.turns import turn

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE = "signing.pem"
PUBLIC = ".pub.pem"  # after the id of the key
FOLDER_MODE, PRIVATE_MODE, PUBLIC_MODE = 0o700, 0o600, 0o644
KEY_ID = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signature:
    """64 bytes in hex digits, and the id of the key that made them."""

    text: str
    key_id: str


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What others verify with, and its PEM."""

    pem: bytes
    key: Ed25519PublicKey

    def has_signed(self, data: bytes, signature: str) -> bool:
        """Whether ``signature`` (128 lower-case hex digits) is of ``data`` by this key."""
        from cryptography.exceptions import InvalidSignature

        if not re.fullmatch("[0-9a-f]{128}", signature):
            return False
        try:
            self.key.verify(bytes.fromhex(signature), data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys in one folder. Holds no key itself, so that none is printed or logged with it."""

    folder: Path

    @classmethod
    def of(cls, home: Home) -> Keys:
        """The keys of one store."""
        return cls(home.keys)

    def ensure(self) -> str:
        """The id of the key that signs; the pair is made where there is none, once, however many ask for it at once.

        StoreError where it cannot be made, is no Ed25519 key, or may be read by others.
        """
        return _id_of(self._signing().public_key())

    def sign(self, data: bytes) -> Signature:
        """The signature of ``data``: the same for the same bytes and key. Errors as of `ensure`."""
        key = self._signing()
        return Signature(key.sign(data).hex(), _id_of(key.public_key()))

    def public_path(self, key_id: str) -> Path:
        """Where the public key of that id is kept."""
        return self.folder / f"{key_id}{PUBLIC}"

    def public_ids(self) -> list[str]:
        """The ids of all keys of which the public half is here, in order."""
        return sorted(path.name.removesuffix(PUBLIC) for path in self.folder.glob(f"*{PUBLIC}"))

    def public(self, key_id: str) -> PublicKey:
        """The public key of that id; StoreError where its file is missing or anything but exactly that key's."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        path = self.public_path(key_id)
        if not KEY_ID.fullmatch(key_id):
            raise StoreError(
                f"{key_id!a} is not the id of a key", "see the ids with: spine certificates list --all -f csv"
            )
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"the public key {path} is missing or cannot be read: {error.strerror}",
                "spine init  # writes it again from its private key; where that is lost, put back a copy of the file",
            ) from error
        try:
            key = load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        # Whatever else the file holds than the one text of this key was not written here.
        if not isinstance(key, Ed25519PublicKey) or _id_of(key) != key_id or _pem_of(key) != pem:
            raise StoreError(
                f"{path} was altered: it is not the file of the public key {key_id[:12]}...",
                f"put back a copy of it; where its private key is here, rm {shlex.quote(str(path))} and: spine init",
            )
        return PublicKey(pem, key)

    def _signing(self) -> Ed25519PrivateKey:
        """The private key; made where there is none, and its public half put beside it."""
        try:
            if not (self.folder / PRIVATE).exists():
                with self._one_at_a_time():
                    if not (self.folder / PRIVATE).exists():
                        write_whole(self.folder / PRIVATE, _new_key(), PRIVATE_MODE)
            key = self._private()
            path = self.public_path(_id_of(key.public_key()))
            if not path.exists():
                write_whole(path, _pem_of(key.public_key()), PUBLIC_MODE)
        except OSError as error:
            raise StoreError(
                f"the signing key in {self.folder}: {error}",
                "make the folder readable and writable for this user, then repeat",
            ) from error
        return key

    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path = self.folder / PRIVATE
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise StoreError(
                f"{path} is the private key, and others than its owner have rights on it (mode {mode:o})",
                f"chmod {PRIVATE_MODE:o} {shlex.quote(str(path))}  # where nobody else can have read it; else move it "
                "away: the next certificate makes a new one",
            )
        wrong = StoreError(
            f"{path} is not an Ed25519 private key",
            "restore it from a backup, or move it away: the next certificate makes a new one",
        )
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError) as error:  # TypeError: one that is encrypted
            raise wrong from error
        if not isinstance(key, Ed25519PrivateKey):
            raise wrong
        return key

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Makers queue, so that there is one key. The lock goes with its process."""
        make_folder(self.folder.parent)
        self.folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        fsync_folder(self.folder.parent)
        with turn(self.folder, f"the keys in {self.folder}"):
            yield


def _new_key() -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _pem_of(key: Ed25519PublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _id_of(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()

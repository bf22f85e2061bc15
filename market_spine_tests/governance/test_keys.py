"""The signing key: made once, kept from others, used as the standard says, and never shown."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from market_spine.domain.errors import StoreError
from market_spine.governance.keys import Keys
from market_spine_tests.governance.certificate_desk import PUBLIC, SECRET, known_key
from market_spine_tests.store.processes import at_once

# RFC 8032, 7.1, test 2: the signature of the byte 0x72.
SIGNED_72 = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
# sha256 of the public key of that test, by: xxd -r -p | sha256sum
KEY_ID = "39f713d0a644253f04529421b9f51b9b08979d08295959c4f3990ee617f5139f"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_signatures_are_those_of_the_standard(tmp_path: Path) -> None:
    """Prevents signatures, key files or ids that no other program arrives at."""
    keys = known_key(tmp_path)
    signature = keys.sign(b"\x72")
    assert signature.text == SIGNED_72
    assert signature.key_id == keys.ensure() == KEY_ID
    der = bytes.fromhex("302a300506032b6570032100") + PUBLIC  # RFC 8410
    pem = f"-----BEGIN PUBLIC KEY-----\n{base64.b64encode(der).decode()}\n-----END PUBLIC KEY-----\n"
    assert keys.public_path(KEY_ID).read_bytes() == keys.public(KEY_ID).pem == pem.encode()


@pytest.mark.parametrize(
    ("data", "signature", "expected"),
    [
        (b"\x72", SIGNED_72, True),
        (b"\x73", SIGNED_72, False),
        (b"", SIGNED_72, False),
        (b"\x72", SIGNED_72.upper(), False),
        (b"\x72", SIGNED_72[:-2], False),
        (b"\x72", SIGNED_72 + "00", False),
        (b"\x72", " " + SIGNED_72[1:], False),
        (b"\x72", SIGNED_72 + "\n", False),
        (b"\x72", "0" * 128, False),
        (b"\x72", "", False),
    ],
)
def test_only_the_one_text_of_a_signature_is_one(tmp_path: Path, data: bytes, signature: str, expected: bool) -> None:
    """Prevents several texts from passing for one signature."""
    keys = known_key(tmp_path)
    assert keys.public(keys.ensure()).has_signed(data, signature) is expected


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o277])
def test_a_key_is_made_once_and_closed(tmp_path: Path, umask: int) -> None:
    """Prevents a private key that others can read, a public one that they cannot, and a new key for every asking."""
    keys = Keys(tmp_path / "home" / "keys")
    before = os.umask(umask)
    try:
        key_id = keys.ensure()
    finally:
        os.umask(before)
    private, public = keys.folder / "signing.pem", keys.public_path(key_id)
    assert [mode(path) for path in (keys.folder, private, public)] == [0o700 & ~umask, 0o600, 0o644]
    assert sorted(keys.folder.iterdir()) == sorted([private, public])
    held = private.read_bytes()
    assert keys.ensure() == keys.sign(b"x").key_id == key_id
    assert private.read_bytes() == held
    assert keys.public_ids() == [key_id]


def _ensure(folder: str) -> str:
    return Keys(Path(folder)).ensure()


@pytest.mark.slow
def test_six_processes_make_one_key(tmp_path: Path) -> None:
    """Prevents certificates that are signed with a key which another process has replaced."""
    folder = tmp_path / "keys"
    made = at_once(_ensure, [(str(folder),)] * 6)
    assert set(made) == {Keys(folder).ensure()}
    assert sorted(path.name for path in folder.iterdir()) == [f"{made[0]}.pub.pem", "signing.pem"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o610, 0o644, 0o666])
def test_a_key_that_others_have_rights_on_is_refused(tmp_path: Path, bits: int) -> None:
    """Prevents signatures that prove nothing, since others may have made them."""
    keys = known_key(tmp_path / "a home")
    path = keys.folder / "signing.pem"
    path.chmod(bits)
    for ask in (keys.ensure, lambda: keys.sign(b"x")):
        with pytest.raises(StoreError, match="others than its owner have rights") as caught:
            ask()
        assert f"chmod 600 '{path}'" in caught.value.remedy
    path.chmod(0o600)
    assert keys.ensure() == KEY_ID


RSA_OR_WHAT = {
    "empty": b"",
    "cut": b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw",
    "public": b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAeE2V6+wvSljcQbTD7+iknroNAihf4r+ABXYPEryNzYA=\n"
    b"-----END PUBLIC KEY-----\n",
    "of another kind": b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIP"
    + b"A" * 42
    + b"\n-----END PRIVATE KEY-----\n",
}


@pytest.mark.parametrize("data", RSA_OR_WHAT.values(), ids=RSA_OR_WHAT)
def test_what_is_no_ed25519_key_is_refused(tmp_path: Path, data: bytes) -> None:
    """Prevents a damaged key from being replaced without a word, as if nothing had been lost."""
    keys = known_key(tmp_path)
    (keys.folder / "signing.pem").write_bytes(data)
    with pytest.raises(StoreError, match="is not an Ed25519 private key"):
        keys.ensure()
    assert (keys.folder / "signing.pem").read_bytes() == data


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    """Prevents a traceback where somebody has put a password on the key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    closed = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
    )
    keys = known_key(tmp_path)
    (keys.folder / "signing.pem").write_bytes(closed)
    with pytest.raises(StoreError, match="is not an Ed25519 private key"):
        keys.sign(b"x")


@pytest.mark.parametrize("name", ["", "x", "../signing", "F" * 64, KEY_ID + "\n", "0" * 63])
def test_what_is_no_id_names_no_file(tmp_path: Path, name: str) -> None:
    """Prevents an altered id in the database from having any file read that it names."""
    keys = known_key(tmp_path)
    keys.ensure()
    with pytest.raises(StoreError, match="is not the id of a key"):
        keys.public(name)


def test_the_key_of_another_id_is_refused(tmp_path: Path) -> None:
    """Prevents a forger's key from verifying under the id of ours."""
    ours, other = known_key(tmp_path), Keys(tmp_path / "other")
    ours.ensure()
    forged = other.public(other.ensure()).pem
    ours.public_path(KEY_ID).write_bytes(forged)
    with pytest.raises(StoreError, match="was altered"):
        ours.public(KEY_ID)


def _in_the_way(folder: Path) -> None:
    folder.write_bytes(b"a file")


def _folder_as_key(folder: Path) -> None:
    (folder / "signing.pem").mkdir(parents=True)
    (folder / "signing.pem").chmod(0o700)


@pytest.mark.parametrize("spoil", [_in_the_way, _folder_as_key])
def test_a_folder_that_cannot_be_used_is_a_typed_error(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    """Prevents a traceback from a full disk or a file in the way."""
    folder = tmp_path / "keys"
    spoil(folder)
    with pytest.raises(StoreError, match=f"the signing key in {folder}") as caught:
        Keys(folder).ensure()
    assert "repeat" in caught.value.remedy


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents half a key, or a second copy of a whole one, from lying about after a full disk."""

    def full(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(28, "No space left on device")

    keys = Keys(tmp_path / "keys")
    keys.folder.mkdir(mode=0o700)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        keys.ensure()
    monkeypatch.undo()
    assert list(keys.folder.iterdir()) == []
    assert keys.ensure()


def test_no_private_key_is_shown(tmp_path: Path) -> None:
    """Prevents the secret from getting into logs, by way of what is printed of the objects that use it."""
    keys = known_key(tmp_path)
    signature = keys.sign(b"x")
    shown = f"{keys!r} {keys} {signature!r} {keys.public(signature.key_id)!r}"
    secret = base64.b64encode(SECRET).decode()
    assert not any(form in shown for form in (SECRET.hex(), secret[:20], repr(SECRET)))

"""The ledger's Ed25519 key pair in files: made once, owner-readable only; the public half is what auditors keep."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from curation.errors import SettingsError


def load_or_make(private_path: Path, public_path: Path) -> Ed25519PrivateKey:
    """The ledger's private key; what is missing of the pair is made.

    Raises:
        SettingsError: the private key is gone or unreadable, or the two do not belong together.
    """
    if not private_path.exists():
        if public_path.exists():
            raise SettingsError("is missing", subject=str(private_path), fix="restore the ledger's key from its copy")
        _make(private_path)
    try:
        key = serialization.load_pem_private_key(private_path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"cannot be read: {error}", subject=str(private_path), fix="restore the ledger's key from its copy") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError("is no Ed25519 key", subject=str(private_path), fix="restore the ledger's key from its copy")
    public = key.public_key().public_bytes_raw()
    if not public_path.exists():
        _write_once(public_path, public.hex().encode() + b"\n", mode=0o644)
    if load_public(public_path).public_bytes_raw() != public:
        raise SettingsError("is not the public half of the ledger's key", subject=str(public_path), fix="restore both from their copies")
    return key


def load_public(public_path: Path) -> Ed25519PublicKey:
    """The ledger's public key from a file of 64 hex digits.

    Raises:
        SettingsError: the file is missing or holds something else.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_path.read_text(encoding="ascii").strip()))
    except FileNotFoundError as error:
        fix = "name the work folder of the home, pull into it first, or put the ledger's public key there"
        raise SettingsError(
            "is not there: nothing was recorded here yet, or this is another folder", subject=str(public_path), fix=fix
        ) from error
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"cannot be read: {error}", subject=str(public_path), fix="give the ledger's public key, 64 hex digits"
        ) from error


def _make(private_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write_once(private_path, pem, mode=0o600)


def _write_once(path: Path, data: bytes, *, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(staging, path)  # of several processes that start at once, the first one's file stands
    staging.unlink()

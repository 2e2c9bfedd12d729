"""Ed25519 signatures over a pack's canonical bytes, and the one question whether a pack may allow anything today."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Final, Literal, get_args

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from curation.errors import PackRefused, UsageError
from curation.residency.pack import PackHeader, canonical_bytes
from curation.schema import SCHEMA_VERSION

Role = Literal["data-security", "legal", "map-partner"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

Standing = Literal["signed", "missing", "untrusted", "bad", "shared key"]

_DOMAIN: Final = b"curation residency pack signature 1\n"


class Signature(BaseModel):
    """One role's Ed25519 signature under a pack; keys and signature in hex, time in ISO 8601 with a zone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    signed_at: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}(Z|[+-][0-9]{2}:[0-9]{2})$")]


class RoleStanding(BaseModel):
    """How one role stands to a pack: its valid signature, or why there is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    standing: Standing
    public_key: str | None = None
    signed_at: str | None = None


_SIGNATURES: Final = TypeAdapter(tuple[Signature, ...])


def keygen() -> tuple[bytes, str]:
    """A fresh key pair: unencrypted PKCS#8 PEM of the private key, and the public key in hex."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), key.public_key().public_bytes_raw().hex()


def sign(pack: PackHeader, role: Role, private_pem: bytes, *, signed_at: datetime) -> Signature:
    """The role's signature over the pack, the role and the time.

    Raises:
        UsageError: the PEM holds no Ed25519 private key, or `signed_at` has no zone.
    """
    key = private_key(private_pem)
    if signed_at.tzinfo is None:
        raise UsageError("signing time has no zone", subject=f"signature of {role}", fix="give a timezone-aware time")
    at = signed_at.isoformat(timespec="seconds")
    signature = key.sign(_message(pack, role, at)).hex()
    return Signature(role=role, public_key=key.public_key().public_bytes_raw().hex(), signature=signature, signed_at=at)


def private_key(private_pem: bytes) -> Ed25519PrivateKey:
    """The key that a PEM holds.

    Raises:
        UsageError: it holds no Ed25519 private key.
    """
    try:
        key = load_pem_private_key(private_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key() from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key()
    return key


def _no_key() -> UsageError:
    return UsageError("is no Ed25519 private key", subject="signing key", fix="make one with `curation residency keygen`")


def _message(pack: PackHeader, role: str, signed_at: str) -> bytes:
    return _DOMAIN + f"{role}\n{signed_at}\n".encode() + canonical_bytes(pack)


def parse_signatures(data: bytes | None) -> tuple[Signature, ...]:
    """The signatures of a signatures file; none for None.

    Raises:
        PackRefused: the bytes are not a JSON list of signatures.
    """
    if data is None:
        return ()
    try:
        return _SIGNATURES.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "(top)"
        raise PackRefused(f"{where}: {first['msg']}", subject="signatures file", fix="sign the pack again") from error


def signatures_bytes(signatures: Sequence[Signature]) -> bytes:
    """The signatures file: a JSON list, sorted by role, key and time."""
    ordered = sorted(signatures, key=lambda one: (one.role, one.public_key, one.signed_at))
    return (json.dumps([one.model_dump() for one in ordered], indent=2) + "\n").encode()


def verify(pack: PackHeader, signatures: Sequence[Signature], trusted_keys: Mapping[str, Sequence[str]]) -> tuple[RoleStanding, ...]:
    """How each role stands to the pack, in the order of `ROLES`; a key that signs for two roles counts for neither."""
    found = [_standing(pack, role, signatures, trusted_keys.get(role, ())) for role in ROLES]
    keys = [one.public_key for one in found if one.standing == "signed"]
    return tuple(
        one.model_copy(update={"standing": "shared key"}) if one.standing == "signed" and keys.count(one.public_key) > 1 else one
        for one in found
    )


def _standing(pack: PackHeader, role: Role, signatures: Sequence[Signature], trusted: Sequence[str]) -> RoleStanding:
    worst = RoleStanding(role=role, standing="missing")
    for one in signatures:
        if one.role != role:
            continue
        if one.public_key not in {key.lower() for key in trusted}:
            worst = RoleStanding(role=role, standing="untrusted", public_key=one.public_key)
            continue
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(one.public_key)).verify(
                bytes.fromhex(one.signature), _message(pack, role, one.signed_at)
            )
        except (InvalidSignature, ValueError):
            worst = RoleStanding(role=role, standing="bad", public_key=one.public_key)
            continue
        return RoleStanding(role=role, standing="signed", public_key=one.public_key, signed_at=one.signed_at)
    return worst


_PROBLEMS: Final[Mapping[Standing, str]] = {
    "missing": "is not signed by role {role}",
    "untrusted": "is signed for role {role} by a key that is not trusted for it",
    "bad": "carries a signature of role {role} that does not fit its bytes",
    "shared key": "is signed for role {role} by a key that also signs for another role",
}


def may_allow(
    pack: PackHeader,
    signatures: Sequence[Signature],
    *,
    trusted_keys: Mapping[str, Sequence[str]],
    today: date,
    allow_demo_pack: bool,
) -> None:
    """Nothing, if the pack may let something out on the day `today` of Asia/Shanghai, its last day included.

    Raises:
        PackRefused: a demo pack outside the demo, another schema version, not yet valid, expired, or short of one of three
            valid signatures by three different keys that are trusted for their roles.
    """
    subject = f"pack {pack.id} {pack.version}"
    if pack.demo and not allow_demo_pack:
        raise PackRefused("is a demo pack, which is no law", subject=subject, fix="use a pack that counsel wrote and signed")
    if pack.schema_version != SCHEMA_VERSION:
        problem = f"was written for schema version {pack.schema_version!r}, the tables have {SCHEMA_VERSION!r}"
        raise PackRefused(problem, subject=subject, fix="review the pack against the new columns and have it signed again")
    if today < pack.valid_from:
        raise PackRefused(f"is not valid before {pack.valid_from}; today is {today}", subject=subject, fix="wait, or sign an earlier pack")
    if today > pack.valid_to:
        expired = f"expired: its last day was {pack.valid_to}, today is {today}"
        raise PackRefused(expired, subject=subject, fix="review the law, date the pack anew and have it signed again")
    for one in verify(pack, signatures, trusted_keys):
        if one.standing != "signed":
            unsigned = "is unsigned: it " if not signatures else ""
            problem = unsigned + _PROBLEMS[one.standing].format(role=one.role)
            signed = f"have it signed: `curation residency sign PACK --role {one.role} --key FILE` (docs/residency.md)"
            trusted = f"if that key is right, name its public half among the trusted keys of {one.role}; else {signed}"
            raise PackRefused(problem, subject=subject, fix=trusted if one.standing == "untrusted" else signed)


def shanghai_day(instant: datetime) -> date:
    """The day in Asia/Shanghai (UTC+8, no summer time since 1992) on which an aware instant falls."""
    offset = instant.utcoffset()
    if offset is None:
        raise UsageError("time has no zone", subject="as-of time", fix="give a timezone-aware time")
    return (instant - offset + timedelta(hours=8)).date()

"""Assessments: the entries of a pack that raise a counter's limit, each under legal's own signature, until a day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from curation.digests import canonical_json
from curation.errors import PackRefused, UsageError
from curation.residency.pack import Assessment, Pack
from curation.residency.signing import Role, private_key

LEGAL: Final[Role] = "legal"
_DOMAIN: Final = b"curation residency assessment signature 1\n"


def assess(pack: Pack, counter: str, *, number: str, new_limit: int, expires: date, private_pem: bytes) -> Assessment:
    """The entry that raises `counter` of the pack to `new_limit` until `expires`, its last day included, signed.

    Raises:
        UsageError: the PEM holds no Ed25519 private key, or the pack has no such counter.
    """
    known = [rule.id for rule in pack.counters]
    if counter not in known:
        fix = f"use one of {', '.join(known)}" if known else "name a pack that counts"
        raise UsageError(f"has no counter {counter!r}", subject=f"pack {pack.id} {pack.version}", fix=fix)
    key = private_key(private_pem)
    message = _message(pack, counter=counter, number=number, new_limit=new_limit, expires=expires)
    return Assessment(
        counter=counter,
        number=number,
        new_limit=new_limit,
        expires=expires,
        public_key=key.public_key().public_bytes_raw().hex(),
        signature=key.sign(message).hex(),
    )


def in_force(pack: Pack, *, trusted_keys: Mapping[str, Sequence[str]], today: date) -> Mapping[str, Assessment]:
    """Counter id -> the assessment that raises its limit today; one that has expired raises nothing.

    Raises:
        PackRefused: an assessment that has not expired does not carry the signature of legal's trusted key.
    """
    found = {one.counter: one for one in pack.assessments if today <= one.expires}
    trusted = {key.lower() for key in trusted_keys.get(LEGAL, ())}
    for one in found.values():
        if one.public_key not in trusted or not _fits(pack, one):
            raise PackRefused(
                f"assessment {one.number} of {one.counter} does not carry legal's signature",
                subject=f"pack {pack.id} {pack.version}",
                fix="have legal sign it: `curation residency assess PACK --counter ID --number N --limit L --expires DAY --key FILE`",
            )
    return found


def _fits(pack: Pack, one: Assessment) -> bool:
    message = _message(pack, counter=one.counter, number=one.number, new_limit=one.new_limit, expires=one.expires)
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(one.public_key)).verify(bytes.fromhex(one.signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _message(pack: Pack, *, counter: str, number: str, new_limit: int, expires: date) -> bytes:
    said = {
        "pack": pack.id,
        "legal_entity": pack.legal_entity,
        "counter": counter,
        "number": number,
        "new_limit": new_limit,
        "expires": expires.isoformat(),
    }
    return _DOMAIN + canonical_json(said)

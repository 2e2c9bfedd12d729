"""Signatures: who must sign, and every way in which a pack may allow nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from curation.errors import PackRefused, UsageError
from curation.residency import signing
from curation.residency.pack import Pack

TODAY = date(2026, 11, 21)
NOW = datetime(2026, 11, 21, tzinfo=UTC)
Signed = Callable[[Pack], tuple[list[signing.Signature], dict[str, list[str]]]]


def _ask(pack: Pack, signatures: list[signing.Signature], trusted: dict[str, list[str]], *, today: date = TODAY, demo: bool = False) -> str:
    try:
        signing.may_allow(pack, signatures, trusted_keys=trusted, today=today, allow_demo_pack=demo)
    except PackRefused as refusal:
        return refusal.problem
    return "allowed"


def test_three_trusted_signatures_allow(base_pack: Pack, signed: Signed) -> None:
    """A pack signed by three different trusted keys may allow."""
    assert "allowed" == _ask(base_pack, *signed(base_pack))


def test_unsigned_pack_is_refused(base_pack: Pack, signed: Signed) -> None:
    """The baseline ships unsigned and so denies."""
    assert "is unsigned" in _ask(base_pack, [], signed(base_pack)[1])


@pytest.mark.parametrize("role", signing.ROLES)
def test_missing_role_is_named(role: str, base_pack: Pack, signed: Signed) -> None:
    """Any one role that has not signed stops the pack."""
    signatures, trusted = signed(base_pack)
    assert f"is not signed by role {role}" == _ask(base_pack, [one for one in signatures if one.role != role], trusted)


@pytest.mark.parametrize("role", signing.ROLES)
def test_untrusted_key_is_refused(role: str, base_pack: Pack, signed: Signed) -> None:
    """A valid signature by a key that is not trusted for the role counts for nothing."""
    signatures, trusted = signed(base_pack)
    trusted[role] = ["00" * 32]
    assert f"role {role} by a key that is not trusted" in _ask(base_pack, signatures, trusted)


def test_one_changed_rule_breaks_the_signatures(base_pack: Pack, signed: Signed) -> None:
    """Signatures bind every rule: k lowered by one is another pack."""
    signatures, trusted = signed(base_pack)
    laxer = base_pack.model_copy(update={"combination": base_pack.combination.model_copy(update={"min_vehicles": 49})})
    assert "does not fit its bytes" in _ask(laxer, signatures, trusted)


def test_signature_binds_role_and_time(base_pack: Pack, signed: Signed) -> None:
    """A signature moved to another role or dated anew does not hold."""
    signatures, trusted = signed(base_pack)
    moved = signatures[0].model_copy(update={"role": "legal"})
    trusted["legal"] = trusted["data-security"]
    assert "role legal that does not fit" in _ask(base_pack, [signatures[0], moved, signatures[2]], trusted)
    later = signatures[0].model_copy(update={"signed_at": "2027-01-01T00:00:00+00:00"})
    assert "role data-security that does not fit" in _ask(base_pack, [later, *signatures[1:]], trusted)


def test_one_key_for_two_roles_is_refused(base_pack: Pack) -> None:
    """Three roles mean three people: a key that signs twice counts for neither role."""
    private_pem, public_hex = signing.keygen()
    signatures = [signing.sign(base_pack, role, private_pem, signed_at=NOW) for role in signing.ROLES]
    assert "also signs for another role" in _ask(base_pack, signatures, {role: [public_hex] for role in signing.ROLES})


def test_window_is_closed_on_both_sides(base_pack: Pack, signed: Signed) -> None:
    """The pack holds from its first to its last day, and on no other."""
    signatures, trusted = signed(base_pack)
    assert "is not valid before 2026-11-21" in _ask(base_pack, signatures, trusted, today=date(2026, 11, 20))
    assert "allowed" == _ask(base_pack, signatures, trusted, today=base_pack.valid_to)
    assert "expired" in _ask(base_pack, signatures, trusted, today=date(2027, 2, 19))


def test_demo_pack_is_refused_outside_the_demo(demo_pack: Pack, signed: Signed) -> None:
    """Fully signed, the demo pack still allows nothing unless the setting is the demo's."""
    signatures, trusted = signed(demo_pack)
    assert "is a demo pack" in _ask(demo_pack, signatures, trusted)
    assert "allowed" == _ask(demo_pack, signatures, trusted, demo=True)


def test_other_schema_version_is_refused(base_pack: Pack, signed: Signed) -> None:
    """A pack written for other columns allows nothing."""
    other = base_pack.model_copy(update={"schema_version": "2"})
    assert "schema version '2'" in _ask(other, *signed(other))


def test_signatures_file_comes_back_equal(base_pack: Pack, signed: Signed) -> None:
    """Signatures survive their file, and the file does not depend on their order."""
    signatures = signed(base_pack)[0]
    data = signing.signatures_bytes(signatures)
    assert data == signing.signatures_bytes(signatures[::-1])
    assert set(signatures) == set(signing.parse_signatures(data))
    assert () == signing.parse_signatures(None)


@pytest.mark.parametrize("data", [b"", b"{}", b'[{"role": "boss"}]', b"[1]", b"\xff"])
def test_broken_signatures_file_is_refused(data: bytes) -> None:
    """A file that is no list of signatures is refused, not read as unsigned."""
    with pytest.raises(PackRefused):
        signing.parse_signatures(data)


def test_only_ed25519_keys_sign(base_pack: Pack) -> None:
    """Another kind of key, or no key, is wrong use."""
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem in (other, b"no key"):
        with pytest.raises(UsageError):
            signing.sign(base_pack, "legal", pem, signed_at=NOW)


def test_day_turns_in_shanghai() -> None:
    """16:00 UTC is midnight in Shanghai."""
    assert date(2026, 11, 21) == signing.shanghai_day(datetime(2026, 11, 21, 15, 59, tzinfo=UTC))
    assert date(2026, 11, 22) == signing.shanghai_day(datetime(2026, 11, 21, 16, 0, tzinfo=UTC))

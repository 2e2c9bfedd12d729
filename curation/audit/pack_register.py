"""Every residency pack that the ledger knows a release under, and the one in force: from when until when, signed by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from curation.audit.recorded import Recorded
from curation.digests import sha256_hex
from curation.errors import PackRefused
from curation.layout import pack_key
from curation.release_files import RELEASED
from curation.residency import pack as packs
from curation.residency import signing
from curation.residency.pack import Wording

Standing = Literal["in force", "refused", "expired", "not yet valid", "replaced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LawBytes:
    """The pack in force as it lies in the settings: its YAML, its signatures, and whose keys are trusted for each role."""

    pack: bytes
    signatures: bytes
    trusted_keys: Mapping[str, Sequence[str]]
    allow_demo_pack: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PackLine:
    """A pack. `digest` is of its file; `refusal` says why the one in force may allow nothing, empty where it may.

    today: the day it was asked for. days_left: until its last day, that day included; 0 where it is over. release_count: releases cut
    under it.
    """

    digest: str
    pack_id: str
    version: str
    title: Wording
    demo: bool
    valid_from: date
    valid_to: date
    today: date
    days_left: int
    standing: Standing
    refusal: str
    release_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPage:
    """A pack with its rules and how each role stands to it; `roles` is empty for a pack whose signatures are not at hand."""

    line: PackLine
    pack: packs.Pack | packs.ListPack
    roles: tuple[signing.RoleStanding, ...]


def pages(on: Recorded, law: LawBytes | None, *, today: date) -> tuple[PackPage, ...]:
    """The pack in force first, then every other under which a release was cut, the latest first.

    Raises:
        EvidenceBroken: a pack is not what the ledger recorded.
        PackRefused: the pack in force cannot be read.
    """
    used = _used(on)
    found = [] if law is None else [_in_force(law, used, today)]
    known = {page.line.digest for page in found}
    for digest in reversed(used):
        if digest not in known:
            pack = packs.read(on.read(pack_key(digest)))
            standing: Standing = "expired" if today > pack.valid_to else "replaced"
            found.append(PackPage(line=_line(pack, standing, digest=digest, used=used, today=today), pack=pack, roles=()))
    return tuple(found)


def _used(on: Recorded) -> dict[str, int]:
    """Digest of each pack file -> releases cut under it, in the order of the ledger."""
    used: dict[str, int] = {}
    for entry in on.of_kind(RELEASED):
        for key, digest in entry.files.items():
            if key == pack_key(digest):
                used[digest] = used.get(digest, 0) + 1
    return used


def _in_force(law: LawBytes, used: Mapping[str, int], today: date) -> PackPage:
    pack = packs.read(law.pack)
    signatures = signing.parse_signatures(law.signatures)
    standing: Standing = "in force"
    refusal = ""
    try:
        signing.may_allow(pack, signatures, trusted_keys=law.trusted_keys, today=today, allow_demo_pack=law.allow_demo_pack)
    except PackRefused as refused:
        standing = "expired" if today > pack.valid_to else "not yet valid" if today < pack.valid_from else "refused"
        refusal = str(refused)
    roles = signing.verify(pack, signatures, law.trusted_keys)
    return PackPage(
        line=_line(pack, standing, digest=sha256_hex(law.pack), refusal=refusal, used=used, today=today), pack=pack, roles=roles
    )


def _line(
    pack: packs.Pack | packs.ListPack, standing: Standing, *, digest: str, used: Mapping[str, int], today: date, refusal: str = ""
) -> PackLine:
    return PackLine(
        digest=digest,
        pack_id=pack.id,
        version=pack.version,
        title=pack.title,
        demo=pack.demo,
        valid_from=pack.valid_from,
        valid_to=pack.valid_to,
        today=today,
        days_left=max(0, (pack.valid_to - max(today, pack.valid_from)).days + 1),
        standing=standing,
        refusal=refusal,
        release_count=used.get(digest, 0),
    )

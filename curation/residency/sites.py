"""Whether the place where data rests may take more of it: the permissions that it needs, and until when each holds.

Only new pulls stop. What is held stays readable, provable and erasable, whatever has expired.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

from curation.errors import SiteRefused
from curation.settings import SiteApproval, SiteApprovalKind, SiteSettings

NOTICE: Final = timedelta(days=30)  # as long before a pack's expiry is announced
# Geo-data of vehicles is collected, stored and processed by units with a surveying qualification (Ministry of Natural Resources, notice 139
# of 2024); a data centre may be wholly foreign-owned only under the pilot that the industry ministry announced in April 2024.
SUBJECTS: Final[Mapping[SiteApprovalKind, str]] = {
    "map_custody": "the custodian's surveying and mapping qualification",
    "foreign_data_centre": "the pilot for foreign-operated data centres",
}
STOPPED: Final = frozenset({"expired", "missing"})
State = Literal["holds", "ends soon", "expired", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePermission:
    """One permission that a site needs, how it stands on a day, and what it rests on: None where it is missing."""

    kind: SiteApprovalKind
    subject: str
    state: State
    approval: SiteApproval | None


def permissions(site: SiteSettings, *, today: date) -> tuple[SitePermission, ...]:
    """Every permission that the site needs, as it stands on `today` (Asia/Shanghai); of several of a kind the one that ends last counts.

    The last day of a permission still counts.
    """
    return tuple(_standing(kind, site, today) for kind in SUBJECTS if site.foreign_operated or kind != "foreign_data_centre")


def require_site(site: SiteSettings | None, *, is_this_machine: bool, today: date) -> None:
    """Nothing, if the site may take new clips on `today`.

    Args:
        site: as the settings declare it, None where they do not.
        is_this_machine: whether the store is a folder of this machine, the embedded default; any other store's site must be declared.
        today: in Asia/Shanghai.

    Raises:
        SiteRefused: it must be declared and is not, or a permission that it needs is missing or expired; names it.
    """
    if site is None:
        if is_this_machine:
            return
        raise SiteRefused(
            "nobody has said where its data rests",
            subject="the home store",
            fix="declare [site] in curation.toml: operator, zone, foreign_operated, and the approvals that it rests on",
        )
    for one in permissions(site, today=today):
        if one.state in STOPPED:
            ended = "is missing" if one.approval is None else f"({one.approval.reference}) expired on {one.approval.expires_on}"
            raise SiteRefused(
                f"{one.subject} {ended}: no new clip may be pulled; what is held stays readable",
                subject=f"site {site.zone}",
                fix=f'renew it, then enter it under [[site.approvals]] with kind = "{one.kind}" and its expires_on',
            )


def _standing(kind: SiteApprovalKind, site: SiteSettings, today: date) -> SitePermission:
    last = max((one for one in site.approvals if one.kind == kind), key=lambda one: one.expires_on, default=None)
    state: State = "missing"
    if last is not None:
        state = "expired" if last.expires_on < today else "ends soon" if last.expires_on - today < NOTICE else "holds"
    return SitePermission(kind=kind, subject=SUBJECTS[kind], state=state, approval=last)

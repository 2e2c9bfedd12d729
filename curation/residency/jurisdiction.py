"""The one guard that keeps clip bytes, manifests and shards at home."""

from __future__ import annotations

from curation.errors import NotAtHome


def require_home(*, subject: str, jurisdiction: str, home_jurisdiction: str) -> None:
    """Nothing, for a store at home.

    Raises:
        NotAtHome: the store's jurisdiction is not home, or is not named.
    """
    if not jurisdiction or jurisdiction != home_jurisdiction:
        raise NotAtHome(
            f"rests in jurisdiction {jurisdiction or 'unknown'}, not at home in {home_jurisdiction or 'unknown'}",
            subject=subject,
            fix=f"use a store in {home_jurisdiction or 'a named home jurisdiction'}; clips, manifests and shards never leave it",
        )

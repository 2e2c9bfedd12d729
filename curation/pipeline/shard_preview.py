"""What a request for shards would give: asked again and again while a request is written, so nothing is imported that only builds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from curation import wiring
from curation.errors import EvaluationRefused, MaskingRefused, ModelRefused
from curation.pipeline.base import pinned
from curation.settings import Settings
from curation.shards.masking import NAMED_MAX, REASON_COLUMN, reasons_of, refusal
from curation.shards.preview import ENCODED_COLUMNS, columns_of_preview, preview
from curation.shards.request import ShardRequest
from curation.withdrawal_files import barred_clip_ids


def preview_shards(settings: Settings, request: ShardRequest) -> dict[str, Any]:
    """What a request would give, before any copy, from main of curated.clips as it is now.

    Of a masked one `masking` says what would mask, or why a build would be `refused`.
    """
    home = wiring.home(settings)
    at = pinned(settings, home)
    rows = home.catalog.stream(settings.curated_table, columns=columns_of_preview(request), encoded=ENCODED_COLUMNS, snapshot_id=at)
    withdrawn = barred_clip_ids(home.store, list(home.ledger.entries()))
    seen = preview(request, rows, withdrawn=withdrawn)
    if request.masked:
        seen["masking"] = _masking_ahead(settings, home, at, request, seen.pop("not_looked_at"))
    return seen


def _masking_ahead(settings: Settings, home: wiring.Home, at: int, request: ShardRequest, lacking: Sequence[str]) -> dict[str, Any]:
    """What would mask the set, or what a build would be refused with; `lacking` are clips that were not looked at."""
    from curation.pipeline.masking import masking_permit  # noqa: PLC0415 - only who asks for masks waits for what proves them

    try:
        permit = masking_permit(settings)
        if lacking:
            first, columns = lacking[:NAMED_MAX], ["clip_id", REASON_COLUMN]
            rows = home.catalog.read(settings.curated_table, snapshot_id=at, clip_ids=first, columns=columns)
            raise refusal(reasons_of(rows), len(lacking), request.name)
    except (EvaluationRefused, MaskingRefused, ModelRefused) as error:
        return {"refused": {"problem": error.problem, "subject": error.subject, "fix": error.fix}}
    return permit.plain()

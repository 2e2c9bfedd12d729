"""Where every object rests in the home store: keys, nothing else. The contract is design.md, "Storage"."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from curation.errors import CurationError

STAGING: Final = ".staging"  # the part of a store that holds no objects: bytes on their way, probes, claims
EVALUATIONS: Final = "evaluations/"  # each in a folder of its own below
REVIEW_SHEET: Final = "sheet.json"
REVIEW_PAGE: Final = "sheet.html"
MASKED: Final = "masked/"  # copies of clips with faces and plates masked
_REVISION_PARTS: Final = 4
_PART_MAX_BYTES: Final = 255  # what ext4, xfs and APFS allow for one name


def clip_key(clip_id: str, suffix: str) -> str:
    """Key of a clip's bytes; `suffix` with its dot, lower case."""
    return f"clips/{clip_id[:2]}/{clip_id}{suffix}"


def quarantine_key(clip_id: str, suffix: str) -> str:
    """Key of bytes that are no readable video."""
    return f"quarantine/{clip_id}/clip{suffix}"


def listing_key(batch_id: str) -> str:
    """What the source held when the batch was listed."""
    return f"batches/{batch_id}/listing.parquet"


def source_key(batch_id: str) -> str:
    """Which source the batch was listed from, and how its entries' addresses are made."""
    return f"batches/{batch_id}/source.json"


def pulled_key(batch_id: str) -> str:
    """What became of each listed entry."""
    return f"batches/{batch_id}/pulled.parquet"


def finished_key(batch_id: str) -> str:
    """Written last, after the ledger knows the batch's manifest: without it a batch is still to do."""
    return f"batches/{batch_id}/finished.json"


def inspection_key(settings_digest: str, clip_id: str) -> str:
    """A finished inspection: the resume point of a retried batch."""
    return f"inspections/{settings_digest}/{clip_id}.json"


def overrun_key(settings_digest: str, limits_digest: str, clip_id: str) -> str:
    """The resume point of a clip that its worker could not measure within these limits; under others it is measured again."""
    return f"inspections/{settings_digest}/overrun/{limits_digest}/{clip_id}.json"


def model_key(sha256: str, suffix: str) -> str:
    """Bytes of a model that finds faces or plates; `suffix` with its dot."""
    return f"models/{sha256}{suffix}"


def model_card_key(sha256: str) -> str:
    """Where a model came from, and its licence."""
    return f"models/{sha256}.json"


def evaluation_key(evaluation_id: str, name: str) -> str:
    """A file of an evaluation of the models in use: evaluation.json, report.html."""
    return f"{EVALUATIONS}{evaluation_id}/{name}"


def masked_folder(clip_id: str) -> str:
    """Prefix of all masked copies of a clip."""
    return f"{MASKED}{clip_id[:2]}/{clip_id}/"


def masked_note_key(clip_id: str, masking: str) -> str:
    """What a masked copy holds, written last; `masking` is the digest of the models and of how they mask."""
    return f"{masked_folder(clip_id)}{masking}.json"


def masked_copy_key(clip_id: str, masking: str, sha256: str) -> str:
    """Bytes of a masked copy, by their own digest."""
    return f"{masked_folder(clip_id)}{masking}/{sha256}.mp4"


def review_picture_key(clip_id: str, review_id: str, number: int) -> str:
    """A masked frame that a person is shown; it goes with the clip's masked copies."""
    return f"{masked_folder(clip_id)}{review_id}-{number:04d}.jpg"


def review_key(review_id: str, name: str) -> str:
    """A file of a review of masked pictures: sheet.json, sheet.html, answers-…json."""
    return f"reviews/{review_id}/{name}"


def clip_of_masked(key: str) -> str:
    """The clip that an object below `MASKED` is a copy of, or speaks of."""
    return key.split("/")[2]


def tombstone_key(clip_id: str) -> str:
    """Says that a clip was erased, so that no pull brings it back."""
    return f"tombstones/{clip_id}.json"


def erasure_key(erasure_id: str, name: str) -> str:
    """A file of an erasure: request.json, receipt.json."""
    return f"erasures/{erasure_id}/{name}"


def withdrawal_key(withdrawal_id: str, name: str) -> str:
    """A file of a withdrawal: request.json, asked.parquet, rows.parquet, shards.json, receipt.json."""
    return f"withdrawals/{withdrawal_id}/{name}"


def manifest_key(batch_id: str) -> str:
    """The batch's manifest."""
    return f"manifests/batch={batch_id}/clips.parquet"


def revision_key(batch_id: str, digest: str) -> str:
    """Rows that take the place of some of the batch's, named by what they were made under; the batch's first manifest stays as it is."""
    return f"manifests/batch={batch_id}/{digest[:16]}/clips.parquet"


def batch_of_revision(key: str) -> str | None:
    """The batch whose rows a revision replaces; None for any other key."""
    parts = key.split("/")
    is_revision = len(parts) == _REVISION_PARTS and parts[0] == "manifests" and parts[3] == "clips.parquet"
    return parts[1].removeprefix("batch=") if is_revision else None


def validation_key(batch_id: str, name: str) -> str:
    """A file of the batch's validation: result.json, report.html."""
    return f"validation/{batch_id}/{name}"


def pack_key(pack_digest: str) -> str:
    """The residency pack that decided, byte for byte."""
    return f"packs/{pack_digest}.yaml"


def signatures_key(pack_digest: str, signatures_digest: str) -> str:
    """The signatures under a pack, as they stood when it decided."""
    return f"packs/{pack_digest}.{signatures_digest[:16]}.signatures.json"


def fences_key(fences_digest: str) -> str:
    """The geofences that decided, byte for byte."""
    return f"fences/{fences_digest}.geojson"


def release_key(release_id: str, name: str) -> str:
    """A file of a release: mapping.parquet, release.parquet, decisions.parquet, evidence.json, approval.json, sent/…"""
    return f"releases/{release_id}/{name}"


def ledger_key(sequence: int) -> str:
    """A link of the ledger."""
    return f"ledger/{sequence:020d}.json"


def shard_key(shard_set_id: str, name: str) -> str:
    """A file of a shard set."""
    return f"shards/{shard_set_id}/{name}"


def shard_request_key(digest: str) -> str:
    """What shard sets were asked for, by the digest of the request: it may name a vehicle, and no shard set holds it."""
    return f"shard_requests/{digest}.json"


def entry_uri(base_uri: str, name: str) -> str:
    """Address of a source's entry: its percent-encoded name below the source's base."""
    return f"{base_uri.rstrip('/')}/{quote(name)}"


def object_uri(key: str) -> str:
    """Address of a home object in tables: it names no host or folder, so it means nothing outside the home store."""
    return f"home:{key}"


def check_key(key: str) -> None:
    """Nothing, for a key of `/`-separated parts that cannot leave the store, whatever the store is.

    Raises:
        CurationError: it could.
    """
    parts = key.split("/")
    problem = None
    if not key or any(not part for part in parts):
        problem = "has an empty part or is absolute"
    elif any(part in {".", ".."} for part in parts):
        problem = "has a part . or .."
    elif "\\" in key or not key.isprintable():
        problem = "has a backslash or a character that does not print"
    elif parts[0] == STAGING:
        problem = "lies in the staging folder"
    elif any(len(part.encode()) > _PART_MAX_BYTES for part in parts):
        problem = f"has a part of over {_PART_MAX_BYTES} bytes"
    if problem:
        raise CurationError(f"the key {problem}", subject=repr(key), fix="use a key of curation/layout.py")


def check_range(key: str, offset_bytes: int, length_bytes: int) -> None:
    """Nothing, for a range of bytes that an object can have.

    Raises:
        CurationError: a number is negative.
    """
    if offset_bytes < 0 or length_bytes < 0:
        raise CurationError(f"has no range of {length_bytes} bytes from {offset_bytes}", subject=key, fix="give numbers of 0 or more")

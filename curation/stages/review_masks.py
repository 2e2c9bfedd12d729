"""Frames of masked copies for a person to look at, drawn by a seed, and what that person says of them, signed and in the ledger."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import layout
from curation.digests import canonical_json, sha256_hex
from curation.errors import ClipUnreadable, EvidenceBroken, ReviewRefused, UsageError
from curation.model_settings import ObjectKind
from curation.names import is_among
from curation.ports import Clock, Ledger, ObjectStore, VideoReader
from curation.privacy import review
from curation.records import StageCount

SHEET_STAGE: Final = "privacy-review"
ANSWER_STAGE: Final = "privacy-answer"
_FRAMES_PER_COPY: Final = 8
_WIDEST_PX: Final = 1280
_JPEG_QUALITY: Final = 90


def make(
    *,
    seed: str,
    requester: str,
    count: int,
    models: Mapping[ObjectKind, str],
    store: ObjectStore,
    ledger: Ledger,
    video: VideoReader,
    clock: Clock,
) -> review.Sheet:
    """The sheet of up to `count` frames of the masked copies that stand at home, made by these models; it and its pictures are kept there.

    Nothing but masked copies is opened. The same seed, copies and count give the same frames.

    Raises:
        UsageError: no seed or requester is named, or no copy stands.
        EvidenceBroken: a copy is not what stands beside it says.
    """
    if not seed.strip() or not requester.strip() or count < 1:
        raise UsageError("needs a seed, a requester and a number of pictures", subject="privacy review", fix="give --seed and --requester")
    notes = dict(_standing_copies(review.models_text(models), store))
    if not notes:
        fix = "build a masked shard set first: its copies are what is looked at"
        raise UsageError("no masked copy of the models in use stands at home", subject="privacy review", fix=fix)
    pictures: dict[str, tuple[dict[str, Any], bytes]] = {}
    candidates: dict[str, tuple[str, review.MaskSize]] = {}
    for clip_id in review.in_drawn_order(seed, notes)[:count]:
        for frame, at_s, picture in _sampled(clip_id, notes[clip_id], store, video):
            name, size = f"{clip_id}/{frame:08d}", review.mask_size(picture)
            candidates[name] = (clip_id, size)
            told = {"clip_id": clip_id, "copy_sha256": notes[clip_id]["sha256"], "frame": frame, "at_s": round(at_s, 3), "mask_size": size}
            pictures[name] = (told, _jpeg(picture))
    taken = [pictures[name] for name in review.chosen(seed, candidates, count)]
    drawn = sha256_hex(canonical_json([seed, [told for told, _ in taken], [sha256_hex(data) for _, data in taken]]))
    review_id = f"review-{drawn[:16]}"
    kept = []
    for number, (told, data) in enumerate(taken, start=1):
        key = layout.review_picture_key(told["clip_id"], review_id, number)
        store.create(key, data)
        kept.append(review.SampledPicture(number=number, key=key, sha256=sha256_hex(data), **told))
    sheet = review.Sheet(
        review_id=review_id,
        seed=seed,
        requester=requester.strip(),
        made_at=clock.now(),
        models=models,
        copies_count=len(notes),
        pictures=tuple(kept),
    )
    return _recorded(sheet, store, ledger)


def _recorded(sheet: review.Sheet, store: ObjectStore, ledger: Ledger) -> review.Sheet:
    """The sheet as it stands: a second call with the same seed finds the first one's."""
    key = layout.review_key(sheet.review_id, layout.REVIEW_SHEET)
    if store.size(key) is None:
        store.create(key, canonical_json(sheet.model_dump(mode="json")))
    data = store.read(key)
    found = review.Sheet.model_validate_json(data)
    counts = {size: sum(one.mask_size == size for one in found.pictures) for size in ("none", "small", "medium", "large")}
    facts = {"seed": found.seed, "requester": found.requester, "models": review.models_text(found.models)}
    count = StageCount(stage=SHEET_STAGE, subject=found.review_id, rows_in=len(found.pictures), accounted=counts)
    ledger.record(count, files={key: sha256_hex(data)}, facts=facts)
    return found


def _standing_copies(models: str, store: ObjectStore) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each clip with what stands beside its masked copy by these models; of several the last, by its key."""
    for key in store.keys(layout.MASKED):
        if key.endswith(".json"):
            note = json.loads(store.read(key))
            if note["detector_versions"] == models:
                yield layout.clip_of_masked(key), note


def _sampled(
    clip_id: str, note: Mapping[str, Any], store: ObjectStore, video: VideoReader
) -> Iterator[tuple[int, float, npt.NDArray[np.uint8]]]:
    """Number, time and picture of frames of a copy, evenly spread."""
    wanted = set(review.spread(note["frame_count"], _FRAMES_PER_COPY))
    with store.local_path(note["key"]) as path:
        if sha256_hex(path.read_bytes()) != note["sha256"]:
            fix = "restore it from a copy, and find out who changed it"
            raise EvidenceBroken("is not what stands beside it says", subject=note["key"], fix=fix)
        with video.open(path) as clip:
            start_s: float | None = None
            for number, frame in enumerate(clip.frames()):
                start_s = frame.pts_s if start_s is None else start_s
                if number in wanted:
                    yield number, (frame.pts_s or 0.0) - (start_s or 0.0), frame.sized(clip.container.width_px, clip.container.height_px)
            if clip.decode_errors:
                raise ClipUnreadable("has a frame that cannot be decoded", subject=f"masked copy of clip {clip_id}", fix="mask it again")


def _jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    zoom = min(1.0, _WIDEST_PX / picture.shape[1])
    drawn = picture if zoom == 1 else cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return bytes(data)


def sheet_of(review_id: str, *, store: ObjectStore, ledger: Ledger) -> tuple[review.Sheet, str]:
    """The sheet, and the SHA-256 that the ledger recorded of it.

    Raises:
        UsageError: there is no such review.
        EvidenceBroken: the sheet is not what the ledger recorded.
    """
    key = layout.review_key(review_id, layout.REVIEW_SHEET)
    recorded = next((entry.files[key] for entry in ledger.entries() if (entry.kind, entry.subject) == (SHEET_STAGE, review_id)), None)
    if recorded is None:
        raise UsageError("is no review", subject=review_id, fix="see `curation privacy review status`")
    data = store.read(key) if store.size(key) is not None else b""
    if sha256_hex(data) != recorded:
        raise EvidenceBroken("is not what the ledger recorded", subject=key, fix="restore the file from a copy")
    return review.Sheet.model_validate_json(data), recorded


def answer(
    review_id: str,
    given: Mapping[int, review.Answer],
    *,
    key: Ed25519PrivateKey | None,
    reviewers: Mapping[str, str],
    store: ObjectStore,
    ledger: Ledger,
    clock: Clock,
) -> review.Answers:
    """What the key's owner says of pictures of a sheet, by number; signed, kept, and recorded in the ledger.

    Args:
        review_id: the sheet's.
        given: number of a picture -> answer.
        key: the reviewer's, which signs.
        reviewers: name -> public key, hex, of everybody who may answer.
        store: the home store.
        ledger: records the answers.
        clock: dates them.

    Raises:
        UsageError: there is no such review.
        EvidenceBroken: the sheet is not what the ledger recorded.
        ReviewRefused: no key, a key of nobody or of the requester, no or an unknown picture, one that was changed or has another answer.
    """
    sheet, recorded = sheet_of(review_id, store=store, ledger=ledger)
    reviewer, public_key = _reviewer(sheet, key, reviewers)
    numbered = {picture.number: picture for picture in sheet.pictures}
    unknown = sorted(set(given) - set(numbered))
    if unknown or not given:
        raise _refused(review_id, f"has no picture {unknown[0]}" if unknown else "was given no answer", "name pictures of the sheet")
    for number in given:
        picture = numbered[number]
        data = store.read(picture.key) if store.size(picture.key) is not None else b""
        if sha256_hex(data) != picture.sha256:
            raise _refused(review_id, f"picture {number} is gone, or is not the one that was drawn", "make another review")
    before = [one for one in answers_to(sheet, recorded, reviewers, store=store, ledger=ledger) if one.reviewer == reviewer]
    new = dict(given)
    for one in before:
        changed = [number for number, said in new.items() if one.answers.get(number, said) != said]
        if changed:
            problem = f"{reviewer} said something else of picture {changed[0]} before"
            raise _refused(review_id, problem, "an answer stands; ask another reviewer")
        new = {number: said for number, said in new.items() if number not in one.answers}
    if key is None or not new:
        return before[-1]
    told = {"review_id": review_id, "sheet_sha256": recorded, "reviewer": reviewer, "answered_at": clock.now(), "answers": new}
    signed = review.signed(review.Answers.model_validate({**told, "public_key": public_key}), key)
    _keep(signed, sheet, store, ledger)
    return signed


def _keep(signed: review.Answers, sheet: review.Sheet, store: ObjectStore, ledger: Ledger) -> None:
    data = canonical_json(signed.model_dump(mode="json"))
    key = layout.review_key(sheet.review_id, f"answers-{sha256_hex(data)[:16]}.json")
    store.create(key, data)
    said = list(signed.answers.values())
    count = StageCount(stage=ANSWER_STAGE, subject=sheet.review_id, rows_in=len(said), accounted={one: said.count(one) for one in said})
    facts = {"reviewer": signed.reviewer, "public_key": signed.public_key, "models": review.models_text(sheet.models)}
    ledger.record(count, files={key: sha256_hex(data)}, facts=facts)


def _reviewer(sheet: review.Sheet, key: Ed25519PrivateKey | None, reviewers: Mapping[str, str]) -> tuple[str, str]:
    if key is None:
        raise _refused(sheet.review_id, "was answered without a signature", "give the reviewer's key with --key")
    public_key = key.public_key().public_bytes_raw().hex()
    names = [name for name, trusted in reviewers.items() if trusted == public_key]
    if len(names) != 1:
        problem = f"was answered with the key {public_key}, which is of nobody who may review, or of several"
        raise _refused(sheet.review_id, problem, "name it once in [privacy.reviewers]")
    if is_among(names[0], [sheet.requester]):
        raise _refused(sheet.review_id, f"was asked for by {sheet.requester}, who may not answer it", "have somebody else look")
    return names[0], public_key


def answers_to(
    sheet: review.Sheet, recorded: str, reviewers: Mapping[str, str], *, store: ObjectStore, ledger: Ledger
) -> tuple[review.Answers, ...]:
    """The answers to a sheet that the ledger recorded, in order; each signed by a key that may review.

    Raises:
        EvidenceBroken: a file is not what was recorded.
        ReviewRefused: an answer is of another sheet, unsigned, or of a key that may not review.
    """
    found = []
    for entry in ledger.entries():
        if (entry.kind, entry.subject) != (ANSWER_STAGE, sheet.review_id):
            continue
        for key, digest in entry.files.items():
            data = store.read(key) if store.size(key) is not None else b""
            if sha256_hex(data) != digest:
                raise EvidenceBroken("is not what the ledger recorded", subject=key, fix="restore the file from a copy")
            said = review.Answers.model_validate_json(data)
            if said.sheet_sha256 != recorded or not said.is_signed() or reviewers.get(said.reviewer) != said.public_key:
                problem = f"holds an answer of {said.reviewer} that no key of [privacy.reviewers] signed for this sheet"
                raise _refused(sheet.review_id, problem, "name the reviewer's key, or make another review")
            found.append(said)
    return tuple(found)


def missed(models: Mapping[ObjectKind, str], ledger: Ledger) -> str | None:
    """The first review in which a person found a face or plate that these models left open, None where there is none."""
    text = review.models_text(models)
    for entry in ledger.entries():
        if entry.kind == ANSWER_STAGE and entry.facts.get("models") == text and entry.counts.get("missed", 0):
            return entry.subject
    return None


def reviews(ledger: Ledger) -> Sequence[str]:
    """Ids of all reviews, in the order in which they were made."""
    return [entry.subject for entry in ledger.entries() if entry.kind == SHEET_STAGE]


def answers_template(sheet: review.Sheet) -> bytes:
    """A CSV file to be filled in: number, clip_id, and an empty column `answer` for ok or missed."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("number", "clip_id", "answer"))
    rows.writerows((picture.number, picture.clip_id, "") for picture in sheet.pictures)
    return text.getvalue().encode()


def parsed_answers(data: bytes, *, subject: str) -> dict[int, review.Answer]:
    """What a filled-in template says, by number; a line without an answer is passed over.

    Raises:
        UsageError: it has no such columns, a number is none, stands twice, or an answer is neither ok nor missed.
    """
    found: dict[int, review.Answer] = {}
    fix = "fill in the answers.csv of the sheet"
    try:
        rows = [(int(row["number"]), row["answer"].strip().lower()) for row in csv.DictReader(io.StringIO(data.decode("utf-8-sig")))]
    except (KeyError, ValueError, AttributeError, TypeError, csv.Error) as error:
        raise UsageError(f"is no list of answers: {error}", subject=subject, fix=fix) from error
    for number, said in rows:
        if said not in {"ok", "missed", ""} or (said and number in found):
            raise UsageError(f"answers picture {number} twice, or with neither ok nor missed", subject=subject, fix=fix)
        if said:
            found[number] = "ok" if said == "ok" else "missed"
    return found


def _refused(review_id: str, problem: str, fix: str) -> ReviewRefused:
    return ReviewRefused(problem, subject=review_id, fix=fix)

"""A person looks at masked pictures: what is shown, what is said of it, and where that stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curation import layout, wiring
from curation.audit import review_sheet
from curation.pipeline.privacy import models_in_use
from curation.privacy import review
from curation.residency.signing import private_key
from curation.settings import Settings
from curation.stages import review_masks


def make_mask_review(settings: Settings, *, seed: str, requester: str, count: int = review.PICTURES) -> review.Sheet:
    """The sheet of up to `count` frames of masked copies of the models in use, kept in the home store.

    Raises:
        UsageError: no seed or requester, or no masked copy stands.
        EvidenceBroken: a copy is not what was written.
    """
    on, models = wiring.ground(settings), models_in_use(settings)
    sheet = review_masks.make(
        seed=seed,
        requester=requester,
        count=count,
        models=models,
        store=on.store,
        ledger=on.ledger,
        video=wiring.video_reader(),
        clock=on.clock,
    )
    beside = {picture.number: f"../../{picture.key}" for picture in sheet.pictures}
    on.store.create(layout.review_key(sheet.review_id, layout.REVIEW_PAGE), review_sheet.render(sheet, beside).encode())
    return sheet


def write_mask_review(settings: Settings, review_id: str, folder: Path) -> None:
    """The sheet as a page with its pictures, and a list to fill in, in a folder of this machine, which must be at home.

    Raises:
        UsageError: there is no such review.
        EvidenceBroken: the sheet is not what the ledger recorded.
    """
    on = wiring.ground(settings)
    sheet, _ = review_masks.sheet_of(review_id, store=on.store, ledger=on.ledger)
    folder.mkdir(parents=True, exist_ok=True)
    names = {picture.number: f"{picture.number:04d}.jpg" for picture in sheet.pictures}
    for picture in sheet.pictures:
        (folder / names[picture.number]).write_bytes(on.store.read(picture.key))
    (folder / layout.REVIEW_PAGE).write_text(review_sheet.render(sheet, names), encoding="utf-8")
    (folder / "answers.csv").write_bytes(review_masks.answers_template(sheet))


def answer_mask_review(
    settings: Settings, review_id: str, answers: bytes | Mapping[int, review.Answer], *, private_pem: bytes | None
) -> review.Answers:
    """What the key's owner says of pictures, by number or as a filled-in list; signed, kept and in the ledger.

    Raises:
        UsageError: there is no such review, or the list or the key is none.
        ReviewRefused: as `stages.review_masks.answer`.
        EvidenceBroken: the sheet is not what the ledger recorded.
    """
    on = wiring.ground(settings)
    given = review_masks.parsed_answers(answers, subject=f"answers to {review_id}") if isinstance(answers, bytes) else answers
    key = None if private_pem is None else private_key(private_pem)
    return review_masks.answer(
        review_id, given, key=key, reviewers=settings.privacy.reviewers, store=on.store, ledger=on.ledger, clock=on.clock
    )


def mask_reviews(settings: Settings) -> Iterator[dict[str, Any]]:
    """Each review: how many of its pictures were called ok, missed, or nothing yet, by whom, and whether it is of the models in use.

    Raises:
        EvidenceBroken, ReviewRefused: a sheet or an answer does not hold.
    """
    on, in_use = wiring.ground(settings), models_in_use(settings)
    for review_id in review_masks.reviews(on.ledger):
        sheet, recorded = review_masks.sheet_of(review_id, store=on.store, ledger=on.ledger)
        said = review_masks.answers_to(sheet, recorded, settings.privacy.reviewers, store=on.store, ledger=on.ledger)
        yield {
            "review_id": review_id,
            "made_at": sheet.made_at.isoformat(),
            "requester": sheet.requester,
            "models": dict(sheet.models),
            "in_use": dict(sheet.models) == dict(in_use),
            "pictures": len(sheet.pictures),
            **review.standing(sheet, said),
            "reviewers": sorted({one.reviewer for one in said}),
        }

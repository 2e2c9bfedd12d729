"""A publication that was killed between commit and receipt is ended by whatever runs next, and named by what may change nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation import pipeline, wiring
from curation.cli import app
from curation.errors import CurationError, UsageError
from curation.settings import PublisherSettings, Settings
from curation.stages import publish
from curation.stages.withdraw import Selection
from tests.publishing import approved_release
from tests.release.conftest import NOW, clip, table

ROWS = table(*(clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number, device_id=f"DEV-{number}") for number in range(4)))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was left of a folder `work` whose one release was committed and whose publisher died before it read anything back."""
    work = tmp_path_factory.mktemp("killed") / "work"
    with pytest.MonkeyPatch.context() as patch:
        _here(patch)
        settings, release_id = approved_release(work, ROWS, patch)

        def died(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(publish, "_gated_again", died)
        with pytest.raises(KeyboardInterrupt):
            pipeline.publish_release(settings, release_id)
    return work.rename(work.with_name("killed"))


def _here(patch: pytest.MonkeyPatch) -> None:
    """One instant, and the overseas catalog without a process of its own."""
    patch.setenv("CURATION_NOW", NOW.isoformat())

    def overseas(settings: Settings) -> object:
        named = {"overseas_catalog": settings.overseas_catalog, "table": settings.publish.table, "store": settings.store}
        return wiring.overseas_here(PublisherSettings(**named, home=settings.home))

    patch.setattr(wiring, "overseas", overseas)


@pytest.fixture
def work(killed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """It, as it was then: tables name their files by whole paths, so it is put back where it was."""
    _here(monkeypatch)
    folder = killed.with_name("work")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(killed, folder)
    assert 4 == pipeline.published(pipeline.open_settings(folder)).num_rows
    return folder


def kinds(settings: Settings) -> list[str]:
    """Kinds of the ledger's entries."""
    return [entry.kind for entry in pipeline.ledger_entries(settings)]


def _of_another_release(settings: Settings) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        pipeline.publish_release(settings, "2026-W01-000000000000")


@pytest.mark.parametrize(
    ("run", "then"),
    [(_of_another_release, []), (pipeline.review, ["review"]), (pipeline.upkeep, [])],
    ids=["publication of any release", "review", "upkeep"],
)
def test_whatever_runs_next_ends_it(work: Path, run: Callable[[Settings], object], then: list[str]) -> None:
    """Its approval holds: the rows are read back and gated, and get their receipt."""
    settings = pipeline.open_settings(work)
    before = kinds(settings)
    assert "overseas_table" == before[-1]
    run(settings)
    assert [*before, "publish", *then] == kinds(settings)
    assert ((), ()) == (pipeline.verify(settings).open_publications, pipeline.verify(settings).uncovered)
    assert 4 == pipeline.published(settings).num_rows


def test_what_may_not_stay_is_taken_back_by_whatever_runs_next(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its approval expired since, and a review failed, which stops publications: no row waits abroad for one that succeeds."""
    monkeypatch.setenv("CURATION_NOW", "2026-12-05T08:00:00+00:00")
    settings = pipeline.open_settings(work)
    pipeline.upkeep(settings)
    assert "publish_refused" == kinds(settings)[-1]
    assert (0, ()) == (pipeline.published(settings).num_rows, pipeline.verify(settings).open_publications)


def test_a_failed_review_leaves_no_row_abroad_without_a_receipt(work: Path) -> None:
    """The pack is gone: the review fails, nothing is published, and what a killed publisher left is taken back."""
    settings = pipeline.open_settings(work)
    missing = settings.model_copy(update={"residency": settings.residency.model_copy(update={"pack": work / "no-pack.yaml"})})
    with pytest.raises(CurationError):
        pipeline.review(missing)
    assert ["publish_failed", "publish_refused", "review_failed"] == kinds(settings)[-3:]
    assert 0 == pipeline.published(settings).num_rows


def test_a_withdrawal_does_not_wait_for_somebody_to_end_it(work: Path) -> None:
    """It bars the clip, settles the publication, which is refused by that, and ends; no row is left abroad."""
    settings = pipeline.open_settings(work)
    asked = pipeline.request_withdrawal(settings, Selection(by="device", value="DEV-0"), reason="sold", requester="engineer")
    count = pipeline.confirm_withdrawal(settings, asked.withdrawal_id, approver="officer")
    assert {"withdrawn": 0, "not_overseas": 1} == dict(count.accounted)
    assert ["publish_failed", "publish_refused", "withdraw"] == kinds(settings)[-3:]
    assert 0 == pipeline.published(settings).num_rows


def test_a_proof_names_it(work: Path) -> None:
    """`audit verify` changes nothing; it says which publication is open, and what ends it."""
    [release] = pipeline.releases(pipeline.open_settings(work))
    told = CliRunner().invoke(app, ["audit", "verify", "--work", str(work)])
    assert (0, True) == (told.exit_code, f"`curation publish {release['release_id']}` ends it" in " ".join(told.stdout.split()))
    as_json = CliRunner().invoke(app, ["audit", "verify", "--work", str(work), "--json"])
    assert [release["release_id"]] == json.loads(as_json.stdout)["open"]

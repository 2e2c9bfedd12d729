"""Release, trace, review and withdrawal on a work folder, by the commands that an engineer and an auditor type."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation import overseas_table, pipeline, wiring
from curation.cli import app
from curation.demo import law, run_demo
from curation.errors import EvidenceBroken, GateRefused, NotAtHome, PackRefused, UsageError
from curation.layout import ledger_key
from curation.settings import LineageSettings
from tests.release.conftest import NOW, clip, table

pytestmark = pytest.mark.usefixtures("publisher_here")

ROWS = table(*(clip(number, vehicle=f"fleet-000{number % 2}", day=1 + number, device_id=f"DEV-{number}") for number in range(5)))


def curate(settings, rows, *, replace=()):
    """Make the rows main of curated.clips."""
    catalog = wiring.home(settings).catalog
    catalog.write_branch(settings.curated_table, "test", rows, replace=list(replace), properties={})
    assert catalog.advance(settings.curated_table, "test")


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A work folder whose five clips are published."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", "2026-11-25T08:00:00+08:00")
        folder = tmp_path_factory.mktemp("withdraw") / "work"
        run_demo._write_settings(folder, folder / "clips", None, law.make(folder / "home" / "law", fences=None, now=NOW))
        settings = pipeline.open_settings(folder)
        curate(settings, ROWS)
        release_id = pipeline.cut_release(settings, requesters=["engineer"])
        pipeline.approve(settings, release_id, approver="officer", ticket="T-1")
        pipeline.publish_release(settings, release_id)
        yield folder


def run(work, *words, code=0):
    """What a command prints."""
    told = CliRunner().invoke(app, [*words, "--work", str(work)], catch_exceptions=False)
    assert code == told.exit_code, told.output
    return told.output


def test_the_way_back_by_commands(work):
    """Trace, ask, confirm, trace again; then home changes and a review asks for a second person; the ledger holds all along."""
    clip_id = ROWS["clip_id"][0].as_py()
    traced = json.loads(run(work, "audit", "trace", clip_id, "--json"))
    assert [(row["state"], row["ticket"], row["approver"]) for row in traced["rows"]] == [("published", "T-1", "officer")]
    assert "approved by officer under ticket T-1" in run(work, "audit", "trace", traced["rows"][0]["release_row_id"])
    asked = json.loads(
        run(work, "withdraw", "request", "--device", "DEV-0", "--reason", "ended", "--requester", "engineer", "--json"),
    )
    assert asked["clips"] == 1
    said = run(work, "withdraw", "confirm", asked["withdrawal_id"], "--approver", "officer")
    assert "1 clips asked for = 1 withdrawn, 0 not overseas" in said
    assert json.loads(run(work, "withdraw", "show", asked["withdrawal_id"]))["requester"] == "engineer"
    assert "came back" in run(work, "audit", "trace", clip_id)
    assert "5 clips" not in run(work, "audit", "trace", "fleet-0000")
    [left, whole] = (json.loads(run(work, "audit", "trace", "fleet-0000", "--json", *more))["withheld"] for more in ((), ("--withheld",)))
    assert (left, type(whole)) == (None, list)
    assert "4 rows overseas = 4 stay, 0 may not" in run(work, "review")
    settings = pipeline.open_settings(work)
    moved = table(clip(1, vehicle="fleet-0001", day=2, device_id="DEV-1", datum="GCJ-02"))
    curate(settings, moved, replace=moved["clip_id"].to_pylist())
    found = json.loads(run(work, "review", "--json", code=1))
    assert (found["rows_to_withdraw"], found["withdrawn"], found["rules"]) == (1, False, {"geofence.datum": 1})
    assert "1 rows of release" in run(work, "withdraw", "confirm", found["withdrawal_id"], "--approver", "officer")
    assert pipeline.published(settings).num_rows == 3
    back = json.loads(run(work, "audit", "trace", moved["clip_id"][0].as_py(), "--json"))["rows"][0]["came_back"]
    assert (back["cause"], back["rules"]) == ("review", ["geofence.datum"])
    assert pipeline.verify(settings).uncovered == ()


def test_a_review_without_signatures_withdraws_nothing_and_stops_publishing(work):
    """With the signatures or the pack gone the command exits 1 and says why in the ledger, the rows stay, and nothing is published."""
    settings = pipeline.open_settings(work)
    before = pipeline.published(settings).num_rows
    signatures = Path(f"{settings.residency.pack}.signatures.json")
    kept = signatures.read_bytes(), settings.residency.pack.read_bytes()
    for broken, problem in ((signatures, "unsigned"), (settings.residency.pack, "no such pack")):
        broken.write_bytes(b"[]") if broken == signatures else broken.unlink()
        with pytest.raises(PackRefused, match=problem) as told:
            run(work, "review")
        [*_, last] = pipeline.ledger_entries(settings)
        assert (told.value.exit_code, last.kind, last.facts["error"]) == (1, "review_failed", "PackRefused")
        signatures.write_bytes(kept[0])
        settings.residency.pack.write_bytes(kept[1])
        assert pipeline.published(settings).num_rows == before
        with pytest.raises(GateRefused, match="the last one failed"):
            may_publish(settings)
        _is_missed_overseas(settings, work / "home" / "store" / ledger_key(last.sequence))
        pipeline.review(settings)
        may_publish(settings)


def _is_missed_overseas(settings, entry):
    """The failed review was noted overseas: who takes its entry away stops publishing all the same."""
    kept = entry.read_bytes()
    entry.unlink()
    home = wiring.home(settings)
    with pytest.raises(EvidenceBroken, match="its end was cut off"):
        overseas_table.check(settings.publish.table, catalog=wiring.overseas(settings), store=home.store, ledger=home.ledger)
    entry.write_bytes(kept)


def may_publish(settings):
    """What every publication asks first."""
    from curation.release_files import check_review

    check_review(wiring.home(settings).ledger)


def test_wrong_use_is_named(work):
    """Nothing or two things to withdraw, an unfinished receipt, and an id that nothing speaks of."""
    why = ["--reason", "r", "--requester", "p", "--work", str(work)]
    for named in ([], ["--clip", "a", "--drive", "b"]):
        told = CliRunner().invoke(app, ["withdraw", "request", *named, *why])
        assert isinstance(told.exception, UsageError)
        assert "one thing" in told.exception.problem
    for words in (["withdraw", "show", "0" * 16], ["audit", "trace", "nobody"]):
        assert isinstance(CliRunner().invoke(app, [*words, "--work", str(work)]).exception, UsageError)


def test_the_table_is_adopted_by_a_command(work):
    """It is this home's already: the command says which it is, records who asked and why, and a review follows as before."""
    told = run(work, "adopt", "--reason", "restored", "--requester", "engineer")
    [*_, last] = pipeline.ledger_entries(pipeline.open_settings(work))
    assert ("overseas_table", "restored", "engineer") == (last.kind, last.facts["reason"], last.facts["requester"])
    assert f"of UUID {last.facts['table_uuid']} is this home's" in " ".join(told.split())
    assert "0 rows were withdrawn from it again" in " ".join(told.split())
    assert "may not" in run(work, "review")


def test_lineage_is_told_what_left_and_what_came_back(work):
    """The publication and the withdrawals before stand in home/lineage.jsonl; a server abroad stops a publication and no withdrawal."""
    lines = [json.loads(line) for line in (work / "home" / "lineage.jsonl").read_text().splitlines()]
    assert {("publish", "COMPLETE"), ("withdraw", "COMPLETE")} <= {(line["job"]["name"], line["eventType"]) for line in lines}
    abroad = pipeline.open_settings(work).model_copy(update={"lineage": LineageSettings(url="https://lineage.example.com")})
    with pytest.raises(NotAtHome, match=r"\[lineage\] url"):
        pipeline.publish_release(abroad, "2026-W01-000000000000")
    asked = json.loads(run(work, "withdraw", "request", "--device", "DEV-3", "--reason", "r", "--requester", "engineer", "--json"))
    assert pipeline.confirm_withdrawal(abroad, asked["withdrawal_id"], approver="officer").accounted["withdrawn"] == 1

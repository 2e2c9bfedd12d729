"""Over a home from which rows left: what a new law calls back, and how far its counters are."""

import json
from datetime import UTC, datetime

import pytest
import yaml
from typer.testing import CliRunner

from curation import pipeline, wiring
from curation.cli_residency import app
from curation.demo import law, run_demo
from curation.residency import signing
from curation.schema import CLIPS
from curation.tables import to_parquet
from tests.release.conftest import four_rows

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
runner = CliRunner()


def say(*words):
    """What the residency command printed."""
    result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory, publisher_here):
    """A work folder with four curated clips, of which the demo law let two out; no test changes it."""
    work = tmp_path_factory.mktemp("published") / "work"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("CURATION_NOW", NOW.isoformat())
        run_demo._write_settings(work, work / "clips", None, law.make(work / "home" / "law", fences=None, now=NOW))
        settings = pipeline.open_settings(work)
        catalog = wiring.home(settings).catalog
        catalog.write_branch(settings.curated_table, "b", four_rows(), replace=[], properties={})
        assert catalog.advance(settings.curated_table, "b")
        release_id = pipeline.cut_release(settings, requesters=["engineer"])
        pipeline.approve(settings, release_id, approver="officer", ticket="T-1")
        pipeline.publish_release(settings, release_id)
        yield work


@pytest.fixture
def pack(home):
    """The demo law of the home; its fences lie beside it."""
    return home / "home" / "law" / law.PACK_NAME


def test_a_stricter_law_calls_the_published_rows_back(home, pack, tmp_path):
    """Under k = 3 the two rows abroad have to come back; under the same law they stay and nothing else leaves."""
    old, new = pack, tmp_path / "new.yaml"
    new.write_bytes(old.read_bytes().replace(b"min_vehicles: 2", b"min_vehicles: 3"))
    found = json.loads(say("diff", old, new, "--published", "--work", home, "--json"))["rows"]
    assert found == {"newly_leave": 0, "stay_abroad": 0, "come_back": 2, "stay_home": 2, "come_back_by": {"combination.k": 2}}
    found = json.loads(say("diff", old, old, "--published", "--work", home, "--json"))["rows"]
    assert (found["stay_abroad"], found["stay_home"], found["come_back"]) == (2, 2, 0)
    new.write_bytes(old.read_bytes().replace(b"min_vehicles: 2", b"min_vehicles: 1"))
    assert "rows: 1 newly leave, 2 stay abroad, 0 have to come back, 1 stay home" in say("diff", old, new, "--published", "--work", home)


def test_one_day_of_releases_has_no_pace(home):
    """The counters of the law in force tell what left and that no day can be told yet."""
    found = {line["counts"]: line for line in map(json.loads, say("forecast", "--work", home, "--json").splitlines())}
    assert (found["vehicles"]["used"], found["vehicles"]["limit"], found["raw_hours"]["used"]) == (2, 100_000, 1)
    assert {line["unmeasured"] for line in found.values()} == {"no history: all releases are of one day, 2026-11-21"}
    counters = pipeline.releases(pipeline.open_settings(home))[0]["counters"]
    assert {one["counter"]: one["after"] for one in counters} == {"counter.vehicles_ever": 2, "counter.raw_hours_ever": 1}


def test_check_counts_on_from_what_left_before(home, pack, tmp_path, make):
    """With --work a manifest is decided on as a release would be: two vehicles are abroad, so under a limit of three no new one leaves."""
    (tmp_path / "clips.parquet").write_bytes(to_parquet(make.table(make.clip(9, vehicle="fleet-0009")), CLIPS))
    text = yaml.safe_load(pack.read_bytes())
    text["counters"] = [{**rule, "limit": 3} for rule in text["counters"] if rule["counts"] == "vehicles"]
    three, trusted = tmp_path / "three.yaml", {}
    three.write_text(yaml.safe_dump(text))
    for role in signing.ROLES:
        trusted[role] = [json.loads(say("keygen", "--out", tmp_path / f"{role}.key", "--json"))["public_key"]]
        say("sign", three, "--role", role, "--key", tmp_path / f"{role}.key")
    (tmp_path / "trusted.json").write_text(json.dumps(trusted))
    words = [
        "check",
        tmp_path / "clips.parquet",
        "--pack",
        three,
        "--trusted",
        tmp_path / "trusted.json",
        "--out",
        tmp_path / "out",
        "--demo",
    ]
    facts = json.loads(say(*words, "--fences", pack.with_name("fences.geojson"), "--work", home, "--json"))
    assert (facts["released"], facts["rules"]) == (0, {"counter.vehicles_ever": 1})
    assert [(one["before"], one["after"], one["level"]) for one in facts["counters"]] == [(2, 2, "open")]
    alone = say(*words, "--fences", pack.with_name("fences.geojson"))
    assert "counters were not asked" in alone
    assert "withheld by combination.k: 1" in alone

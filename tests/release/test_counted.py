"""Releases reserve what they speak of, once each and for ever, and an assessment that ran out stops a publication."""

import json
from dataclasses import replace
from datetime import date, timedelta

import pytest
import yaml

from curation.audit.verify import verify
from curation.errors import EvidenceBroken, PackRefused
from curation.residency import assessment, signing
from curation.residency import pack as packs
from curation.stages import release

NEXT_WEEK = date(2026, 11, 28)


def law_of(world, limit, *, expires=None):
    """The demo's law with a limit of vehicles, raised to 1,000 until a day where one is given; signed anew, and legal's key with it."""
    text = yaml.safe_load(world.law.pack_bytes)
    vehicles = next(rule for rule in text["counters"] if rule["counts"] == "vehicles")
    text["counters"] = [{**vehicles, "limit": limit}]
    keys = {role: signing.keygen() for role in signing.ROLES}
    if expires is not None:
        pack = packs.parse(yaml.safe_dump(text).encode())
        entry = assessment.assess(pack, vehicles["id"], number="CAC-1", new_limit=1_000, expires=expires, private_pem=keys["legal"][0])
        text["assessments"] = [entry.model_dump()]
    data = yaml.safe_dump(text).encode()
    signatures = [signing.sign(packs.parse(data), role, pem, signed_at=world.clock.now()) for role, (pem, _) in keys.items()]
    trusted = {role: (public,) for role, (_, public) in keys.items()}
    return replace(world.law, pack_bytes=data, signatures_bytes=signing.signatures_bytes(signatures), trusted_keys=trusted)


def standing(world, release_id):
    """Before, after and level of the one counter."""
    [one] = world.folder(release_id).evidence()["counters"]
    return one["before"], one["after"], one["level"]


@pytest.fixture
def more(rows, make):
    """The rows, and one of a third vehicle in their cell."""
    return make.table(*rows.to_pylist(), make.clip(5, vehicle="fleet-0005"))


def publish_first(world, rows, law):
    """The first window's release, published; the next window begins."""
    first = world.cut(rows, law=law)
    world.approve(first)
    world.publish(first, rows)
    world.clock.instant += timedelta(days=7)
    return first


def test_what_left_before_counts_in_the_next_window(world, rows, more):
    """After two vehicles under a limit of three no third one leaves, though k would let it; the counter says so."""
    law = law_of(world, 3)
    first = publish_first(world, rows, law)
    assert (0, 2, "open") == standing(world, first)
    second = world.cut(more, law=law, day=NEXT_WEEK)
    assert 0 == world.folder(second).release().num_rows
    assert 1 == world.folder(second).evidence()["rules"]["counter.vehicles_ever"]
    assert (2, 2, "open") == standing(world, second)


def test_a_higher_limit_lets_it_leave(world, rows, more):
    """Under a limit of ten the third vehicle leaves and is counted beside the two."""
    law = law_of(world, 10)
    publish_first(world, rows, law)
    assert (2, 3, "open") == standing(world, world.cut(more, law=law, day=NEXT_WEEK))


def test_cutting_again_reserves_nothing_twice(world, rows):
    """A release asked for again stands as it stood, its own reservation not counted against it."""
    law = law_of(world, 3)
    first = world.cut(rows, law=law)
    assert first == world.cut(rows, law=law)
    assert (0, 2, "open") == standing(world, first)


def test_a_superseded_release_stays_counted(world, rows, make):
    """What was reserved is never given back, even if it never left: other vehicles find less room."""
    law = law_of(world, 5)
    world.cut(rows, law=law)
    others = make.table(*(make.clip(number, vehicle=f"fleet-{number:04d}") for number in range(11, 15)))
    second = world.cut(others, law=law)
    assert (2, 4, "warn") == standing(world, second)
    assert 2 == world.folder(second).evidence()["rules"]["counter.vehicles_ever"]


def test_the_ledger_covers_what_was_counted(world, rows):
    """The counted file is evidence: altered, the proof names it, and nothing is cut on what it says."""
    first = world.cut(rows)
    key = world.folder(first).key("counted.parquet")
    assert () == verify(world.store, world.key.public_key()).uncovered
    other = world.folder(first).key("mapping.parquet")
    with world.store.local_path(key) as path:
        path.chmod(0o600)
        path.write_bytes(world.store.read(other))
    with pytest.raises(EvidenceBroken, match="not what the ledger recorded"):
        verify(world.store, world.key.public_key())
    world.clock.instant += timedelta(days=7)
    with pytest.raises(EvidenceBroken, match="nothing can be counted"):
        world.cut(rows, day=NEXT_WEEK)


def test_an_assessment_lets_more_leave_and_is_named(world, rows, more):
    """The raised limit stands in the evidence under the filing's number."""
    law = law_of(world, 2, expires=date(2026, 12, 31))
    first = publish_first(world, rows, law)
    [one] = world.folder(first).evidence()["counters"]
    assert (1_000, "CAC-1") == (one["limit"], one["assessment"])
    assert (2, 3, "open") == standing(world, world.cut(more, law=law, day=NEXT_WEEK))


def test_a_release_on_an_expired_assessment_is_not_published(world, rows):
    """Cut on the assessment's last day it may leave that day; the day after, the law's limit is back and it may not."""
    law = law_of(world, 2, expires=date(2026, 11, 21))
    evidence = world.folder(world.cut(rows, law=law)).evidence()
    release.check_assessments(law, evidence, today=date(2026, 11, 21))
    with pytest.raises(PackRefused, match=r"CAC-1 of counter\.vehicles_ever, on which the release rests, has expired"):
        release.check_assessments(law, evidence, today=date(2026, 11, 22))


def test_a_forged_assessment_lets_nothing_leave(world, rows):
    """A limit raised by somebody else than legal stops the whole release, and the ledger keeps the refusal."""
    law = law_of(world, 2, expires=date(2026, 12, 31))
    forged = law_of(world, 2)
    text = yaml.safe_load(forged.pack_bytes)
    text["assessments"] = yaml.safe_load(law.pack_bytes)["assessments"]
    data = yaml.safe_dump(text).encode()
    keys = {role: signing.keygen() for role in signing.ROLES}
    signatures = [signing.sign(packs.parse(data), role, pem, signed_at=world.clock.now()) for role, (pem, _) in keys.items()]
    trusted = {role: (public,) for role, (_, public) in keys.items()}
    with pytest.raises(PackRefused, match="legal's signature"):
        world.cut(rows, law=replace(forged, pack_bytes=data, signatures_bytes=signing.signatures_bytes(signatures), trusted_keys=trusted))
    last = list(world.ledger.entries())[-1]
    assert ("release_refused", 4) == (last.kind, last.counts["withheld"])
    assert "legal's signature" in json.dumps(dict(last.facts))


def test_a_cut_that_was_killed_goes_on_under_other_counters(world, rows, make):
    """A cut died half way, another came between: the first one's rows then make another release, for the counters moved on."""

    class DiesAtEvidence:
        def create(self, key, data):
            if key.endswith("evidence.json"):
                raise OSError("killed here")
            return world.store.create(key, data)

        def __getattr__(self, name):
            return getattr(world.store, name)

    law = law_of(world, 4)
    with pytest.raises(OSError, match="killed here"):
        replace(world, store=DiesAtEvidence()).cut(rows, law=law)
    world.cut(make.table(*(make.clip(number, vehicle=f"fleet-{number:04d}") for number in range(11, 14))), law=law)
    again = world.cut(rows, law=law)
    assert (3, 3, "warn") == standing(world, again)
    assert 0 == world.folder(again).release().num_rows
    assert again == world.cut(rows, law=law)


def test_a_limit_that_fell_makes_another_release(world, rows):
    """The day after an assessment ran out, the same rows are cut anew under the law's limit, and the old release is closed."""
    law = law_of(world, 2, expires=date(2026, 11, 21))
    first = world.cut(rows, law=law)
    world.clock.instant += timedelta(days=1)
    second = world.cut(rows, law=law)
    assert (2, 0) == (world.folder(first).release().num_rows, world.folder(second).release().num_rows)
    assert world.folder(first).has("superseded.json")

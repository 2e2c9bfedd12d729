"""Where data rests: which permissions a site needs, and what happens when one is missing or over."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from typer.testing import CliRunner

from curation import pipeline
from curation.cli import app
from curation.errors import SettingsError, SiteRefused
from curation.residency.sites import NOTICE, permissions, require_site
from curation.settings import SiteSettings

TODAY = date(2026, 11, 21)


def site(*ends: tuple[str, date], foreign_operated: bool = False) -> SiteSettings:
    approvals = [{"kind": kind, "reference": f"No. {kind} {end}", "holder": "Map Partner Ltd", "expires_on": end} for kind, end in ends]
    return SiteSettings.model_validate(
        {"operator": "Operator", "zone": "zone-1", "foreign_operated": foreign_operated, "approvals": approvals}
    )


@pytest.mark.parametrize(
    ("days", "state"), [(-1, "expired"), (0, "ends soon"), (NOTICE.days - 1, "ends soon"), (NOTICE.days, "holds"), (400, "holds")]
)
def test_a_permission_counts_through_its_last_day(days, state):
    """The day after it stops pulls; thirty days before, it is announced."""
    [found] = permissions(site(("map_custody", TODAY + timedelta(days=days))), today=TODAY)
    assert state == found.state
    assert f"No. map_custody {TODAY + timedelta(days=days)}" == found.approval.reference


def test_of_several_permissions_the_last_to_end_counts():
    """A renewal entered below the old one is enough, whatever their order."""
    renewed = site(("map_custody", TODAY + timedelta(days=300)), ("map_custody", TODAY - timedelta(days=5)))
    require_site(renewed, is_this_machine=False, today=TODAY)
    assert ["holds"] == [one.state for one in permissions(renewed, today=TODAY)]


@pytest.mark.parametrize(
    ("declared", "match"),
    [
        (site(), "qualification is missing"),
        (site(("map_custody", TODAY - timedelta(days=1))), "expired on 2026-11-20"),
        (site(("map_custody", TODAY), foreign_operated=True), "foreign-operated data centres is missing"),
        (site(("foreign_data_centre", TODAY), foreign_operated=True), "qualification is missing"),
        (None, "nobody has said"),
    ],
)
def test_a_missing_or_expired_permission_stops_pulls(declared, match):
    """Each is refused by name; a store elsewhere than on this machine needs a declared site."""
    with pytest.raises(SiteRefused, match=match):
        require_site(declared, is_this_machine=False, today=TODAY)


def test_a_folder_of_this_machine_needs_no_declaration_but_a_declared_site_counts():
    """The embedded default runs without one; a declaration with a hole in it stops pulls there too."""
    require_site(None, is_this_machine=True, today=TODAY)
    with pytest.raises(SiteRefused):
        require_site(site(), is_this_machine=True, today=TODAY)


def _settings(work, expires_on, clips):
    work.mkdir(exist_ok=True)
    clips.mkdir(exist_ok=True)
    (clips / "a.mp4").write_bytes(b"no video")
    (work / "curation.toml").write_text(
        f"""[sources.depot]
path = {json.dumps(str(clips))}
[site]
operator = "Operator"
zone = "zone-1"
foreign_operated = false
[[site.approvals]]
kind = "map_custody"
reference = "No. 7"
holder = "Map Partner Ltd"
expires_on = {expires_on}
""",
        encoding="utf-8",
    )
    return pipeline.open_settings(work)


def test_an_expired_permission_stops_new_pulls_and_leaves_what_is_held_readable(tmp_path, monkeypatch):
    """Neither discovery nor pull go on; the ledger still proves and the store still reads."""
    monkeypatch.setenv("CURATION_NOW", "2026-11-21T09:00:00+08:00")
    held = _settings(tmp_path / "work", "2026-11-21", tmp_path / "clips")
    [batch_id] = pipeline.discover(held, "depot")
    assert {"quarantined": 1} == {name: rows for name, rows in pipeline.pull_batch(held, batch_id).accounted.items() if rows}
    monkeypatch.setenv("CURATION_NOW", "2026-11-22T00:00:00+08:00")
    for attempt in (lambda: pipeline.discover(held, "depot"), lambda: pipeline.pull_batch(held, batch_id)):
        with pytest.raises(SiteRefused, match=r"No\. 7"):
            attempt()
    assert 1 == pipeline.verify(held).entry_count


def test_the_site_command_tells_what_holds_and_exits_1_where_pulls_are_stopped(tmp_path, monkeypatch):
    """A person reads a table, a program reads JSON, and the exit code is the gate's."""
    monkeypatch.setenv("CURATION_NOW", "2026-11-21T09:00:00+08:00")
    _settings(tmp_path / "work", "2026-11-20", tmp_path / "clips")
    told = CliRunner().invoke(app, ["site", "--work", str(tmp_path / "work")])
    assert (1, True) == (told.exit_code, "expired" in told.output)
    as_json = CliRunner().invoke(app, ["site", "--json", "--work", str(tmp_path / "work")])
    assert ("expired", "2026-11-20") == (json.loads(as_json.output)["state"], json.loads(as_json.output)["approval"]["expires_on"])
    (tmp_path / "bare").mkdir()
    undeclared = CliRunner().invoke(app, ["site", "--work", str(tmp_path / "bare")])
    assert (0, True) == (undeclared.exit_code, "no site is declared" in undeclared.output)


def test_a_site_without_its_operator_or_with_an_unknown_permission_is_refused(tmp_path):
    """Half a declaration says nothing."""
    for line in ('zone = "z"\nforeign_operated = false', 'operator = "o"\nzone = "z"'):
        (tmp_path / "curation.toml").write_text(f"[site]\n{line}\n", encoding="utf-8")
        with pytest.raises(SettingsError, match="site"):
            pipeline.open_settings(tmp_path)

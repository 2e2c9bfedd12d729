"""`curation pull`: what the data engineer sees of a source before and after its clips are taken."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.cli import app
from curation.errors import SettingsError
from curation.settings import FsspecSourceSettings, S3SourceSettings, SourceSettings, read_settings


@pytest.fixture
def work(tmp_path: Path, folder: Path) -> Path:
    """A work folder whose source `fleet` is the folder, with a second source over the same through fsspec."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "curation.toml").write_text(
        f'[sources.fleet]\npath = "{folder}"\nzone = "Asia/Urumqi"\n[sources.web]\nkind = "fsspec"\nurl = "file://{folder}"\n'
        "[pull]\nsettle_s = 0.2\n"
    )
    return path


def _curation(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert 0 == result.exit_code, result.output
    return result.output


def test_a_dry_run_names_the_fate_of_every_entry_and_writes_nothing(work: Path, put: Callable[..., Path]) -> None:
    """One line per entry, one object with --json, by any kind of source; the work folder stays empty."""
    put("20260901_080000_NF.mp4", b"video")
    put("20260901_080000_NF.mp4.json", json.dumps({"colour": "red"}))
    put("notes.txt")
    for source, captured_at in (("fleet", "2026-09-01 02:00:00+00:00"), ("web", "2026-09-01 00:00:00+00:00")):
        entries = [json.loads(line) for line in _curation("pull", source, "--dry-run", "--json", "--work", work).splitlines()]
        assert [("20260901_080000_NF.mp4", "pull"), ("20260901_080000_NF.mp4.json", "sidecar"), ("notes.txt", "refused")] == [
            (entry["name"], entry["fate"]) for entry in entries
        ]
        assert (captured_at, "front", 5) == tuple(entries[0][key] for key in ("captured_at", "camera", "size_bytes"))
    shown = _curation("pull", "fleet", "--dry-run", "--work", work)
    assert "list fleet: 3 in = 1 pull, 1 sidecar, 1 refused" in shown
    assert "unknown keys dropped: colour (1)" in shown
    assert ["curation.toml"] == [path.name for path in work.iterdir()]


def test_a_pull_says_what_is_held_and_what_still_grows(work: Path, put: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A second pull holds the first one's clip, leaves the growing one alone and says so."""
    os.utime(put("a.mp4", b"no video at all"), (1, 1))
    assert "list fleet: 1 in = 1 pull" in _curation("pull", "fleet", "--work", work)
    growing = put("b.mp4", b"half")
    os.utime(growing, (4e9, 4e9))  # a time that is not past on the busiest machine

    def meanwhile(_: float) -> None:
        growing.write_bytes(b"half and more")

    monkeypatch.setattr("curation.pipeline.batch.pull.Settling", _with(meanwhile))
    shown = _curation("pull", "fleet", "--work", work)
    assert "list fleet: 2 in = 1 pull, 1 growing" in shown  # a.mp4 is to do until its batch has a manifest
    assert "growing b.mp4: changed between two looks; the next pull looks at it again" in shown


def _with(wait: Callable[[float], None]) -> Callable[..., object]:
    from curation.stages.pull import Settling

    return lambda **said: Settling(**said, wait=wait)


def test_each_kind_of_source_is_known_by_its_settings(tmp_path: Path) -> None:
    """Folder by default, fsspec and S3 by kind; names of variables, never their values."""
    (tmp_path / "curation.toml").write_text(
        '[sources.a]\npath = "/x"\n'
        '[sources.b]\nkind = "fsspec"\nurl = "sftp://host/x"\nsecrets = { password = "DEPOT_PASSWORD" }\n'
        '[sources.c]\nkind = "s3"\nendpoint_url = "https://s3.cn-north-1.amazonaws.com.cn"\nbucket = "incoming"\nregion = "cn-north-1"\n'
        'prefix = "车队/2026/"\nprofile = "aws"\n'
        'credentials = { access_key_variable = "DEPOT_KEY", secret_key_variable = "DEPOT_SECRET" }\n'
    )
    found = read_settings({}, work=tmp_path).sources
    assert [SourceSettings, FsspecSourceSettings, S3SourceSettings] == [type(found[name]) for name in "abc"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('path = "/x"\nzone = "Asia/Peking"', r"sources\.x\.zone"),
        ('kind = "fsspec"\nurl = "sftp://u:secret@host/x"', "holds a password"),
        ('kind = "fsspec"\nurl = "s3://bucket/x"', 'use kind = "s3"'),
        ('kind = "fsspec"\nurl = "/no/url"', r"sources\.x\.url"),
        ('kind = "fsspec"\nurl = "sftp://h/x"\nsecrets = { password = "hunter2" }', r"sources\.x\.secrets\.password"),
        ('kind = "folder"', r"sources\.x\.path"),
    ],
)
def test_wrong_settings_of_a_source_are_named(tmp_path: Path, text: str, problem: str) -> None:
    """The key as it stands in the file, and no secret in the message."""
    (tmp_path / "curation.toml").write_text(f"[sources.x]\n{text}\n")
    with pytest.raises(SettingsError, match=problem) as caught:
        read_settings({}, work=tmp_path)
    assert "secret@" not in str(caught.value)

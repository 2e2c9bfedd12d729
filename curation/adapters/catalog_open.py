"""Opens the catalog that the settings name: SQLite or PostgreSQL with a warehouse in a folder or a bucket, or a REST catalog."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Final

from pyiceberg.catalog import Catalog, load_rest
from pyiceberg.catalog.sql import SqlCatalog
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from curation.errors import SettingsError
from curation.settings import CatalogSettings, OverseasCatalogSettings

_SQLITE: Final = "sqlite:///"
_BUSY_S: Final = 60  # how long SQLite waits for another process's write; one commit takes about 10 ms
_PASSWORD: Final = "password"  # noqa: S105 - the name of a key


def is_sqlite(settings: CatalogSettings) -> bool:
    """Whether the catalog is a file of this machine."""
    return settings.uri.startswith(_SQLITE)


def warehouse_of(settings: CatalogSettings) -> str:
    """Location of the warehouse.

    Raises:
        SettingsError: PyIceberg cannot name it.
    """
    if isinstance(settings, OverseasCatalogSettings) and settings.location is not None:
        return settings.location.rstrip("/")
    location = f"file://{settings.warehouse.resolve()}"
    if {"#", "?"} & set(location):  # PyIceberg parses locations as URLs and would cut there
        raise SettingsError("holds # or ?", subject=f"warehouse {settings.warehouse}", fix="use a folder without them")
    return location


def open_catalog(settings: CatalogSettings) -> Catalog:
    """The catalog.

    Raises:
        SettingsError: the warehouse cannot be named, or the key file cannot be used.
    """
    warehouse, secrets = warehouse_of(settings), _secrets(settings)
    given = dict(settings.properties) if isinstance(settings, OverseasCatalogSettings) else {}
    if settings.uri.startswith("http"):
        return load_rest(settings.name, {"uri": settings.uri, "warehouse": warehouse, **given, **secrets})
    uri = settings.uri
    if is_sqlite(settings):
        Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
        uri = f"{uri}?timeout={_BUSY_S}"
    elif _PASSWORD in secrets:
        uri = make_url(uri).set(password=secrets.pop(_PASSWORD)).render_as_string(hide_password=False)
    if warehouse.startswith("file://"):
        settings.warehouse.mkdir(parents=True, exist_ok=True)
    properties = {"uri": uri, "warehouse": warehouse, **given, **secrets}
    try:
        return SqlCatalog(settings.name, **properties)
    except (OperationalError, IntegrityError, ProgrammingError):  # two processes made the catalog's own tables at once; either's serve
        return SqlCatalog(settings.name, **properties)


def _secrets(settings: CatalogSettings) -> dict[str, str]:
    """The properties in the key file; none where none is named.

    Raises:
        SettingsError: others may read the file, or it is no TOML of texts.
    """
    if not isinstance(settings, OverseasCatalogSettings) or settings.key_file is None:
        return {}
    path, fix = settings.key_file, 'write TOML like "s3.access-key-id" = "…" there and take everybody else\'s rights away (chmod 600)'
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError("may be read by others", subject=str(path), fix=fix)
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", subject=str(path), fix=fix) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError("is not TOML", subject=str(path), fix=fix) from error
    if not all(isinstance(value, str) for value in found.values()):
        raise SettingsError("holds something else than texts", subject=str(path), fix=fix)
    return found

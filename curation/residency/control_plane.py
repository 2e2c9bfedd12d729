"""Where Airflow's control plane really lies: the addresses of its API, database, queue, remote log and lineage, for the guard."""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import yaml

from curation.errors import SettingsError

_NO_DATABASE: Final = (
    "airflow-db-not-allowed:///"  # what Airflow puts in the place of the address where it keeps a process off its database
)
UNTOLD: Final = ""  # an address that cannot be told from here, which the guard refuses
_ADDRESSES: Final = (
    "api.base_url",
    "core.execution_api_server_url",
    "edge.api_url",
    "database.sql_alchemy_conn",
    "database.sql_alchemy_conn_async",
    "celery.broker_url",
    "celery.result_backend",
)
_EXECUTORS: Final = {"celery": "celery", "edge": "edge"}  # sections that only these executors obey; the shipped file fills them in
_LINEAGE_SILENT: Final = frozenset({"console", "noop"})
_TRUE: Final = frozenset({"true", "t", "1", "yes", "on"})

Config = Mapping[str, str]


def read_airflow_cfg(text: str) -> Config:
    """The settings of an airflow.cfg, `section.key` → value.

    Raises:
        SettingsError: the text is no such file.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise SettingsError("cannot be read", subject="airflow.cfg", fix="correct the file") from error
    return {f"{section}.{key}".lower(): value for section in parser.sections() for key, value in parser.items(section)}


def control_plane(env: Mapping[str, str], config: Config, *, lineage_file: str | None = None) -> Mapping[str, str]:
    """The addresses to guard, name of the setting → URL or path; what no setting names is not there, Airflow's defaults being local.

    Args:
        env: the environment of Airflow's components; it goes before the file.
        config: what airflow.cfg sets, as `read_airflow_cfg` gives it.
        lineage_file: text of the OpenLineage configuration file that the settings name.
    """
    settings = _Settings(env, config)
    executor = settings.get("core.executor")
    used = {section for section, name in _EXECUTORS.items() if executor == UNTOLD or name in (executor or "").lower()}
    names = [name for name in _ADDRESSES if name.split(".")[0] in used or name.split(".")[0] not in _EXECUTORS]
    found = {name: address for name in names if (address := settings.get(name)) not in {None, _NO_DATABASE}}
    found.update(_remote_log(settings, env))
    found.update(_metrics(settings))
    found.update(_lineage(settings, env, lineage_file))
    return found


class _Settings:
    def __init__(self, env: Mapping[str, str], config: Config) -> None:
        self._env, self._config = env, config

    def get(self, name: str) -> str | None:
        """A setting's value; UNTOLD where a command or a secrets backend gives it, None where it is not set."""
        section, key = name.upper().split(".")
        variable = f"AIRFLOW__{section}__{key}"
        if variable in self._env:
            return self._env[variable]
        from_elsewhere = (
            f"{variable}_CMD" in self._env,
            f"{variable}_SECRET" in self._env,
            f"{name}_cmd" in self._config,
            f"{name}_secret" in self._config,
        )
        if any(from_elsewhere):
            return UNTOLD
        return self._config.get(name) or None

    def is_on(self, name: str) -> bool:
        """Whether a switch is on, or cannot be told to be off."""
        value = self.get(name)
        return value is not None and (value == UNTOLD or value.strip().lower() in _TRUE)


def _remote_log(settings: _Settings, env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The remote log folder; where that is a bucket, the endpoint of the connection it is reached by, if the environment holds it."""
    if not settings.is_on("logging.remote_logging"):
        return
    folder = settings.get("logging.remote_base_log_folder") or UNTOLD
    name = "logging.remote_base_log_folder"
    if urlsplit(folder).scheme not in {"s3", "s3a", "oss", "cos", "obs"}:
        yield name, folder
        return
    connection = settings.get("logging.remote_log_conn_id") or ""
    yield f"{name} (connection {connection or 'not named'})", _endpoint_of(env.get(f"AIRFLOW_CONN_{connection.upper()}", ""))


def _endpoint_of(connection: str) -> str:
    """The endpoint_url in an Airflow connection, written as JSON or as a URI; UNTOLD where there is none."""
    if connection.lstrip().startswith("{"):
        try:
            extra: Any = json.loads(connection).get("extra", {})
            extra = json.loads(extra) if isinstance(extra, str) else extra
        except ValueError:
            return UNTOLD
    else:
        extra = dict(parse_qsl(urlsplit(connection).query))
        if "__extra__" in extra:
            return UNTOLD
    if not isinstance(extra, Mapping):
        return UNTOLD
    service = extra.get("service_config")
    own = service.get("s3", {}).get("endpoint_url") if isinstance(service, Mapping) and isinstance(service.get("s3"), Mapping) else None
    return str(own or extra.get("endpoint_url") or UNTOLD)


def _metrics(settings: _Settings) -> Iterator[tuple[str, str]]:
    """Hosts that metrics and crash reports are sent to: they name DAGs, tasks and users."""
    for switch, host, scheme in (("metrics.statsd_on", "metrics.statsd_host", "udp"), ("metrics.otel_on", "metrics.otel_host", "http"),
                                 ("traces.otel_on", "traces.otel_host", "http")):  # fmt: skip
        if settings.is_on(switch):
            value = settings.get(host)
            yield host, UNTOLD if value == UNTOLD else f"{scheme}://{value or 'localhost'}"
    if settings.is_on("sentry.sentry_on"):
        server = urlsplit(settings.get("sentry.sentry_dsn") or UNTOLD).hostname  # its user name is the project's public key
        yield "sentry.sentry_dsn", f"https://{server}" if server else UNTOLD


def _lineage(settings: _Settings, env: Mapping[str, str], lineage_file: str | None) -> Iterator[tuple[str, str]]:
    if settings.is_on("openlineage.disabled") or env.get("OPENLINEAGE_DISABLED", "").lower() in _TRUE:
        return
    for name in ("OPENLINEAGE_URL", "OPENLINEAGE_ENDPOINT_URL"):
        if name in env:
            yield name, env[name]
    transport = settings.get("openlineage.transport")
    if transport is not None:
        yield from _transport("openlineage.transport", _yaml(transport))
    nested: dict[str, Any] = {}
    for name, value in env.items():
        if name.startswith("OPENLINEAGE__TRANSPORT__"):
            _nest(nested, name.removeprefix("OPENLINEAGE__TRANSPORT__").lower().split("__"), value)
    if nested:
        yield from _transport("OPENLINEAGE__TRANSPORT", nested)
    file = settings.get("openlineage.config_path") or env.get("OPENLINEAGE_CONFIG")
    if file is not None:
        document = _yaml(lineage_file) if lineage_file is not None else None
        yield from _transport(f"OpenLineage file {file}", document.get("transport") if isinstance(document, Mapping) else None)


def _transport(name: str, transport: object) -> Iterator[tuple[str, str]]:
    """The addresses of a transport and of all within it; a kind that is not known leads nobody knows where."""
    if not isinstance(transport, Mapping):
        yield name, UNTOLD
        return
    kind = str(transport.get("type", "")).lower()
    if kind in _LINEAGE_SILENT:
        return
    if kind in {"http", "async_http"}:
        yield f"{name} url", str(transport.get("url") or UNTOLD)
    elif kind == "file":
        folder = str(transport.get("log_file_path") or UNTOLD)
        yield f"{name} log_file_path", folder if "storage_options" not in transport else UNTOLD
    elif kind == "kafka":
        servers = transport.get("config", {})
        listed = str(servers.get("bootstrap.servers", "")) if isinstance(servers, Mapping) else ""
        for number, server in enumerate(listed.split(",")):
            yield f"{name} bootstrap.servers {number}", f"kafka://{server.strip()}" if server.strip() else UNTOLD
    elif kind in {"composite", "transform"}:
        inner = transport.get("transports", transport.get("transport"))
        parts = inner.values() if isinstance(inner, Mapping) and "type" not in inner else inner if isinstance(inner, list) else [inner]
        for number, part in enumerate(parts):
            yield from _transport(f"{name} transport {number}", part)
    else:
        yield f"{name} of type {kind or 'unknown'}", UNTOLD


def _nest(into: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        following = into.setdefault(part, {})
        if not isinstance(following, dict):
            return
        into = following
    into[path[-1]] = value


def _yaml(text: str) -> Any:
    """A YAML or JSON document, None where it is neither."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None

"""The one guard that keeps clip bytes, manifests, shards and the control plane at home: it looks at where a thing really goes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from curation.errors import NotAtHome
from curation.settings import HOST_NAME, HomeSettings

LOCAL: Final = ""  # the host of what never leaves this machine: a path, a file URL, a SQLite file, a Unix socket
_LOOPBACK_NAME: Final = "localhost"
_FILE_DATABASES: Final = frozenset({"sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"})
# What may follow a database's or broker's address without changing where it leads: libpq, mysqlclient and pymongo all take further
# hosts, files and services there, so that only known keys pass.
_HARMLESS_OPTIONS: Final = frozenset(
    {
        "application_name",
        "charset",
        "check_same_thread",
        "connect_timeout",
        "heartbeat",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "sslmode",
        "sslrootcert",
        "ssl_ca",
        "ssl_cert_reqs",
        "target_session_attrs",
        "timeout",
        "visibility_timeout",
    }
)


def require_home(
    *,
    subject: str,
    jurisdiction: str,
    home_jurisdiction: str,
    url: str | None = None,
    region: str | None = None,
    home: HomeSettings | None = None,
) -> None:
    """Nothing, for a place at home: its label says so and, where it has an address, the resolved address is on the allow-list.

    Loopback and what lies on this machine are home by rule, whatever region they name; every other host must be listed, and its region too.

    Args:
        subject: what is guarded, for the error; never a URL, which may hold a password.
        jurisdiction: where the settings say that it rests.
        home_jurisdiction: what home is called.
        url: where the bytes really go, after every default, override and redirect; None for a local directory.
        region: the region that the request is signed for, None where there is no such thing.
        home: the allow-list; without one, only this machine is home.

    Raises:
        NotAtHome: the label is not home or not named, or the address is not on the list or cannot be told for certain.
    """
    if not jurisdiction or jurisdiction != home_jurisdiction:
        raise NotAtHome(
            f"rests in jurisdiction {jurisdiction or 'unknown'}, not at home in {home_jurisdiction or 'unknown'}",
            subject=subject,
            fix=f"use a store in {home_jurisdiction or 'a named home jurisdiction'}; clips, manifests and shards never leave it",
        )
    if url is None:
        return
    allowed = home or HomeSettings()
    host = _host_of(url, subject)
    if host == LOCAL or _is_loopback(host):
        return
    if host not in allowed.hosts and not host.endswith(allowed.suffixes):
        raise NotAtHome(
            f"would go to {host}, which is not on the home allow-list",
            subject=subject,
            fix="use an endpoint at home; if this one is, add its exact name to hosts in [home]",
        )
    if region is not None and region not in allowed.regions:
        raise NotAtHome(
            f"would go to region {region!a} at {host}, which is not on the home allow-list",
            subject=subject,
            fix="use a region at home; if this one is, add it to regions in [home]",
        )


def require_control_plane_home(addresses: Mapping[str, str], *, home: HomeSettings) -> None:
    """Nothing, if each address (name of the setting → URL or path) is at home.

    Raises:
        NotAtHome: an address is not; the setting is named, its value is not shown.
    """
    for name, url in addresses.items():
        require_home(subject=name, jurisdiction=home.jurisdiction, home_jurisdiction=home.jurisdiction, url=url, home=home)


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine and nowhere else.

    Raises:
        NotAtHome: it cannot be told for certain.
    """
    host = _host_of(url, "address")
    return host == LOCAL or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    if host == _LOOPBACK_NAME:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback and str(address) == host and getattr(address, "ipv4_mapped", None) is None


def _host_of(url: str, subject: str) -> str:
    """The one host that every client reads out of `url`, lower case; LOCAL where there is none.

    Whatever two parsers might read differently is refused rather than guessed.
    """
    if url.startswith("/") and not url.startswith("//"):
        return LOCAL
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", url)
    if scheme is None:
        raise _unclear(subject, "is neither a URL nor an absolute path")
    if scheme[1] == "file" or scheme[1] in _FILE_DATABASES:
        if not url.startswith("/", scheme.end()) and url != scheme[0]:
            raise _unclear(subject, "is a file on another host")
        return LOCAL
    if re.search(r"[^\x21-\x7e]|[\\`^{}|<>\"]", url):
        raise _unclear(subject, "has a character that no address has")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise _unclear(subject, "has no valid host or port") from error
    _require_one_reading(parts, subject)
    if not host:
        return _socket_of(parts, subject)
    if port == 0 or not _is_plain(host):
        raise _unclear(subject, f"has no plain host name: {host!a}")
    return host


def _require_one_reading(parts: SplitResult, subject: str) -> None:
    """SQLAlchemy takes everything up to an @ for a password, `/`, `?` and `#` included, where others see the host end before them."""
    web = parts.scheme in {"http", "https"}
    if parts.netloc.count("@") > (0 if web else 1):
        raise _unclear(subject, "has a name and password before its host" if web else "has several @ before its host")
    if any("@" in part for part in (parts.path, parts.query, parts.fragment)):
        raise _unclear(subject, "has an @ after its host; write it as %40")
    if not web:
        options = {key for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
        strange = sorted(options - _HARMLESS_OPTIONS - ({"host"} if not parts.hostname else set()))
        if strange:
            raise _unclear(subject, f"has options that may lead elsewhere: {', '.join(strange)}")


def _socket_of(parts: SplitResult, subject: str) -> str:
    hosts = [value for key, value in parse_qsl(parts.query, keep_blank_values=True) if key == "host"]
    if parts.netloc or len(hosts) != 1 or not hosts[0].startswith("/") or "," in hosts[0]:
        raise _unclear(subject, "names no host")
    return LOCAL


def _is_plain(host: str) -> bool:
    """Whether `host` is a DNS name or an IP literal in its one canonical form."""
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        return re.fullmatch(HOST_NAME, host) is not None


def _unclear(subject: str, problem: str) -> NotAtHome:
    return NotAtHome(f"the address {problem}", subject=subject, fix="write a plain address of a host at home")

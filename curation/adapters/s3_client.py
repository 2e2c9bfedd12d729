"""An S3 client that goes nowhere but home: nothing of the environment redirects it, and every request passes the guard as it is sent."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
)
from botocore.exceptions import ConnectionError as NoConnection

from curation.errors import CurationError, NotAtHome, OutsideError, SettingsError
from curation.residency.jurisdiction import is_loopback, require_home
from curation.settings import HomeSettings, ProfileCredentials, S3StoreSettings, VariableCredentials

log = logging.getLogger(__name__)

CONNECTIONS: Final = 16
_TRIES: Final = 4
_CONNECT_TIMEOUT_S: Final = 10
_READ_TIMEOUT_S: Final = 60
_RETRYABLE_CODES: Final = frozenset(
    {
        "BadDigest",  # the bytes were damaged on their way
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
_REDIRECTS: Final = range(300, 400)
_NOT_MODIFIED: Final = 304
_FORBIDDEN: Final = frozenset({401, 403})
_TOO_MANY: Final = frozenset({408, 429})
_NOT_IMPLEMENTED: Final = 501
_ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_NOTHING: Final = (None, None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What a kind of server takes. Sources: stack notes in docs/storage.md, where each is marked tried or untried.

    `checksums`: it stores and checks the CRC32 that botocore sends; else Content-MD5 is sent and what was written is read back.
    `virtual_host`: the bucket's name stands before the host instead of in the path.
    `ordered`: it lists keys in the order of their bytes.
    `atomic_parts`: of two uploads put together at once under one condition, one is refused. No probe can tell; SeaweedFS 4.48 took both.
    """

    checksums: bool
    virtual_host: bool
    ordered: bool
    atomic_parts: bool = False


QUIRKS: Final[Mapping[str, Quirks]] = {
    "aws": Quirks(checksums=True, virtual_host=True, ordered=True, atomic_parts=True),
    "seaweedfs": Quirks(checksums=True, virtual_host=False, ordered=False),
    "aliyun": Quirks(checksums=False, virtual_host=True, ordered=False),
    "huawei": Quirks(checksums=False, virtual_host=True, ordered=False),
    "tencent": Quirks(checksums=False, virtual_host=True, ordered=False),
    "ceph": Quirks(checksums=False, virtual_host=False, ordered=False),
    "minio": Quirks(checksums=False, virtual_host=False, ordered=False),
    "other": Quirks(checksums=False, virtual_host=False, ordered=False),
}


def connect(settings: S3StoreSettings, *, home: HomeSettings, env: Mapping[str, str]) -> Any:
    """A botocore S3 client that takes endpoint, region, proxies and authorities from the settings alone.

    Raises:
        NotAtHome: the endpoint or region is not on the home allow-list, or is not encrypted on its way off this machine.
        SettingsError: the credentials that the settings name are not there, or the authorities' file is not.
    """
    subject = f"store bucket {settings.bucket}"
    guard = _guard(subject, settings.jurisdiction, home)
    guard(settings.endpoint_url, settings.region)
    if settings.endpoint_url.startswith("http://") and not is_loopback(settings.endpoint_url):
        raise NotAtHome(
            "would be reached without encryption, so that nobody knows who answers", subject=subject, fix="give an https:// endpoint_url"
        )
    if settings.ca_bundle is not None and not settings.ca_bundle.is_file():
        raise SettingsError("ca_bundle is no file", subject=str(settings.ca_bundle), fix="correct ca_bundle in [store]")
    _say_what_is_ignored(settings, env)
    session = _isolated(settings.credentials, env)
    quirks = QUIRKS[settings.profile]
    when = "when_supported" if quirks.checksums else "when_required"
    virtual = settings.addressing == "virtual" or (settings.addressing is None and quirks.virtual_host)
    client = session.create_client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.endpoint_url,
        verify=str(settings.ca_bundle) if settings.ca_bundle else True,
        config=Config(
            ignore_configured_endpoint_urls=True,
            use_dualstack_endpoint=False,
            use_fips_endpoint=False,
            proxies={},  # not even those of the environment: a proxy abroad would see the bytes
            signature_version="s3v4",
            s3={
                "addressing_style": "virtual" if virtual else "path",
                "use_accelerate_endpoint": False,
                "use_arn_region": False,
                # Bodies carry a checksum, and TLS or loopback keeps others out: no SHA-256 over them again.
                "payload_signing_enabled": False,
            },
            request_checksum_calculation=when,
            response_checksum_validation=when,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=CONNECTIONS,
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            tcp_keepalive=True,
        ),
    )
    client.meta.events.register("before-call.s3", _never_redirect)
    client.meta.events.register("before-send.s3", lambda request, **_: guard(request.url, _signed_region(request)))
    return client


@contextmanager
def outside(subject: str, *, home: HomeSettings) -> Iterator[None]:
    """Errors of the server and of the way to it, as ours: retryable, or final with the fix. Server texts are not passed on.

    Raises:
        NotAtHome: the server sends its callers on to a place that is not at home.
        OutsideError: a retry may help.
        CurationError: it will not.
    """
    try:
        yield
    except ClientError as error:
        _raise_answer(error, subject, home)
    except SSLError as error:
        raise CurationError(
            "the server's certificate is not accepted", subject=subject, fix="set ca_bundle in [store], or mend the server's certificate"
        ) from error
    except (HTTPClientError, NoConnection, IncompleteReadError, FlexibleChecksumError) as error:
        raise OutsideError(
            f"the way to the store failed: {type(error).__name__}", subject=subject, fix="see to network and server, then run again"
        ) from error
    except BotoCoreError as error:
        raise CurationError(
            f"the store's client refuses: {type(error).__name__}", subject=subject, fix="see to the settings and credentials of [store]"
        ) from error


def code_of(error: ClientError) -> str:
    """The server's code of an error, or its HTTP status where it sent none."""
    return str(error.response.get("Error", {}).get("Code") or status_of(error))


def status_of(error: ClientError) -> int:
    """The HTTP status of an error."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _guard(subject: str, jurisdiction: str, home: HomeSettings) -> Callable[[str, str], None]:
    def check(url: str, region: str) -> None:
        require_home(
            subject=subject,
            jurisdiction=jurisdiction,
            home_jurisdiction=home.jurisdiction,
            url=url.split("?", 1)[0],
            region=region,
            home=home,
        )

    return check


def _signed_region(request: Any) -> str:
    """The region that a request is signed for; an unsigned request has none, which no allow-list holds."""
    value = request.headers.get("Authorization", "")
    found = re.search(r"Credential=[^,]*/\d{8}/([^/,]*)/s3/aws4_request", value.decode() if isinstance(value, bytes) else value)
    return found[1] if found else ""


def _never_redirect(params: Mapping[str, Any], **_: object) -> None:
    """botocore leaves a request alone that it believes to have redirected already; else it would follow 301, 302, 307 and region hints."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _raise_answer(error: ClientError, subject: str, home: HomeSettings) -> NoReturn:
    code, status = code_of(error), status_of(error)
    problem = f"the store answers {status} {code} to {error.operation_name}"
    if status in _REDIRECTS and status != _NOT_MODIFIED:
        target = _redirect_target(error)
        if target:
            require_home(subject=subject, jurisdiction=home.jurisdiction, home_jurisdiction=home.jurisdiction, url=target, home=home)
        where = f", to {urlsplit(target).hostname}" if target else ""
        raise CurationError(
            f"the store sends its callers elsewhere ({status}{where}), which is not followed",
            subject=subject,
            fix="set endpoint_url and region in [store] to where the bucket is",
        ) from error
    if code in _RETRYABLE_CODES or status in _TOO_MANY or (status >= 500 and status != _NOT_IMPLEMENTED):
        raise OutsideError(problem, subject=subject, fix="see to the server, then run again") from error
    if status in _FORBIDDEN:
        raise CurationError(problem, subject=subject, fix="see to the rights of the credentials that [store] names") from error
    if code in {"NoSuchBucket", "InvalidBucketName"} or error.operation_name == "HeadBucket":
        raise CurationError(problem, subject=subject, fix="make the bucket at home, or correct bucket in [store]") from error
    raise CurationError(problem, subject=subject, fix="see to profile and addressing in [store] (docs/storage.md)") from error


def _redirect_target(error: ClientError) -> str:
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    endpoint = error.response.get("Error", {}).get("Endpoint")
    return str(headers.get("location") or (f"https://{endpoint}" if endpoint else ""))


def _say_what_is_ignored(settings: S3StoreSettings, env: Mapping[str, str]) -> None:
    for name in _ENDPOINT_VARIABLES:
        if env.get(name, settings.endpoint_url).rstrip("/") != settings.endpoint_url.rstrip("/"):
            log.warning("%s in the environment is not obeyed: endpoint_url in [store] says where the store is", name)


@functools.cache
def _models() -> Any:
    """botocore's description of S3, parsed once for all clients of a process: 0.1 s of CPU each time."""
    return botocore.loaders.create_loader()


class _Provider:
    """What a botocore session asks for credentials."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials

    def load_credentials(self) -> Any:
        """The credentials, which renew themselves where they can."""
        return self._credentials


def _isolated(named: VariableCredentials | ProfileCredentials, env: Mapping[str, str]) -> Any:
    """A session that has the named credentials and reads no configuration file or variable for anything else."""
    session = botocore.session.Session(
        session_vars={
            "profile": _NOTHING,
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
            "ca_bundle": _NOTHING,
            "region": _NOTHING,
        }
    )
    session.register_component("data_loader", _models())
    if isinstance(named, VariableCredentials):
        names = [named.access_key_variable, named.secret_key_variable, *filter(None, [named.session_token_variable])]
        missing = [name for name in names if not env.get(name)]
        if missing:
            raise SettingsError(f"{', '.join(missing)} not set", subject="store credentials", fix="set what [store.credentials] names")
        session.set_credentials(*(env[name] for name in names))
        return session
    subject, fix = f"store credentials profile {named.named_profile}", "add it to the AWS configuration files, or correct named_profile"
    try:
        credentials = botocore.session.Session(profile=named.named_profile).get_credentials()
    except ProfileNotFound as error:
        raise SettingsError("there is no such profile", subject=subject, fix=fix) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise SettingsError("it has no complete credentials", subject=subject, fix=fix) from error
    if credentials is None:
        raise SettingsError("it has no credentials", subject=subject, fix=fix)
    session.register_component("credential_provider", _Provider(credentials))
    return session

"""A real SeaweedFS on loopback, over HTTP and over TLS, with keys and signed internal ports."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import ipaddress
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from curation.adapters import s3_client
from curation.errors import OutsideError
from curation.settings import HomeSettings, S3StoreSettings

WEED = Path(sysconfig.get_path("scripts")) / "weed"
BUCKET = "clips"
READY_S = 30.0
STOP_S = 15.0
_JWT = ("WEED_JWT_SIGNING_KEY", "WEED_JWT_SIGNING_READ_KEY", "WEED_JWT_FILER_SIGNING_KEY", "WEED_JWT_FILER_SIGNING_READ_KEY")
_RANGES = 8  # of ports
_PORTS = ("master.port", "volume.port", "filer.port", "s3.port", "admin.port")


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running S3 server."""

    url: str
    env: Mapping[str, str]
    ca_bundle: Path | None
    iceberg_url: str | None = None

    def settings(self, *, prefix: str = "", **changed: object) -> S3StoreSettings:
        """Settings of a store in this server's bucket."""
        return S3StoreSettings.model_validate(
            {
                "kind": "s3",
                "endpoint_url": self.url,
                "bucket": BUCKET,
                "region": "cn-north-1",
                "prefix": prefix,
                "profile": "seaweedfs",
                "credentials": {"access_key_variable": "HOME_S3_KEY", "secret_key_variable": "HOME_S3_SECRET"},
                "ca_bundle": self.ca_bundle,
                **changed,
            }
        )


@contextlib.contextmanager
def running(
    folder: Path, *, tls: bool = False, users: Mapping[str, Sequence[str]] | None = None, table_bucket: str | None = None
) -> Iterator[Server]:
    """A server with its files in `folder`, and an empty bucket; stopped on exit.

    Its owner's keys are HOME_S3_KEY and HOME_S3_SECRET in the server's `env`, those of every other user NAME_S3_KEY and NAME_S3_SECRET.

    Args:
        folder: where its files lie.
        tls: whether it is reached over TLS alone.
        users: more users by name, and what each may do ("Read:clips/releases/*").
        table_bucket: a bucket of Iceberg tables, for which a REST catalog is served too.

    Raises:
        OutsideError: it is not ready in time; names its log.
    """
    keys = {"HOME_S3_KEY": f"key{secrets.token_hex(8)}", "HOME_S3_SECRET": secrets.token_hex(24)}
    identities = [_identity("home", keys, ["Admin", "Read", "List", "Tagging", "Write"])]
    for name, actions in (users or {}).items():
        keys |= {f"{name.upper()}_S3_KEY": f"key{secrets.token_hex(8)}", f"{name.upper()}_S3_SECRET": secrets.token_hex(24)}
        identities.append(_identity(name, keys, actions))
    config = folder / "s3.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"identities": identities}))
    ca_bundle = _certify(folder) if tls else None
    *others, iceberg_port = _free_ports(len(_PORTS) + 1)
    ports = dict(zip(_PORTS, others, strict=True))
    tables = [f"-s3.port.iceberg={iceberg_port}", f"-tableBucket={table_bucket}"] if table_bucket else ["-s3.port.iceberg=0"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GOMEMLIMIT": "400MiB", **{name: secrets.token_hex(16) for name in _JWT}}
    sockets = folder / "s"
    command = [
        str(WEED), "-logtostderr=true", "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()), *tables, "-s3.port.lance=0", "-webdav=false", "-admin.ui=false",
        "-s3.autoCreateBucket=false", f"-filer.localSocket={sockets}f", f"-s3.localSocket={sockets}3", f"-s3.config={config}",
        *([f"-s3.cert.file={folder}/cert.pem", f"-s3.key.file={folder}/key.pem"] if tls else []),
    ]  # fmt: skip
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True) as process:
        try:
            _wait(process, ports["s3.port"], ca_bundle, folder / "log")
            iceberg_url = f"http://127.0.0.1:{iceberg_port}" if table_bucket else None
            url = f"http{'s' if tls else ''}://127.0.0.1:{ports['s3.port']}"
            server = Server(url=url, env=keys, ca_bundle=ca_bundle, iceberg_url=iceberg_url)
            s3_client.connect(server.settings(), home=HomeSettings(), env=keys).create_bucket(Bucket=BUCKET)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _identity(name: str, keys: Mapping[str, str], actions: Sequence[str]) -> dict[str, object]:
    credentials = {"accessKey": keys[f"{name.upper()}_S3_KEY"], "secretKey": keys[f"{name.upper()}_S3_SECRET"]}
    return {"name": name, "credentials": [credentials], "actions": list(actions)}


def _wait(process: subprocess.Popen[bytes], port: int, ca_bundle: Path | None, log: Path) -> None:
    """Return once the server refuses a request without keys, which shows that it knows its keys."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        if ca_bundle is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        else:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=2, context=ssl.create_default_context(cafile=str(ca_bundle))
            )
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", f"/{BUCKET}")
            if connection.getresponse().status == http.client.FORBIDDEN:
                return
        time.sleep(0.05)
    raise OutsideError(f"is not ready: {log.read_text()[-2000:]}", subject="SeaweedFS", fix="see whether `weed` runs on this machine")


def _free_ports(count: int) -> list[int]:
    """Ports that are free, and with them their twins 10,000 above, which SeaweedFS takes for gRPC.

    Each of pytest's workers draws from a range of its own: what is free when it is drawn is taken a second later.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    lowest = 10_000 + worker % _RANGES * (9_999 // _RANGES)  # below what the kernel hands out, and below every twin
    found: set[int] = set()
    while len(found) < count:
        port = lowest + secrets.randbelow(9_999 // _RANGES)
        with socket.socket() as one, socket.socket() as twin, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            twin.bind(("127.0.0.1", port + 10_000))
            found.add(port)
    return sorted(found)


def _certify(folder: Path) -> Path:
    """A certificate for 127.0.0.1 in `cert.pem` and `key.pem`; the path of the authority that vouches for it."""
    now, day = dt.datetime.now(dt.UTC), dt.timedelta(days=1)
    issuer_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the test")])

    def draft(name: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        return builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)

    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    authority = draft("authority of the test", issuer_key.public_key()).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    authority = authority.add_extension(usage, critical=True)
    authority = authority.add_extension(x509.SubjectKeyIdentifier.from_public_key(issuer_key.public_key()), critical=False)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = draft("127.0.0.1", key.public_key()).add_extension(names, critical=False)
    leaf = leaf.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    (folder / "ca.pem").write_bytes(authority.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    (folder / "cert.pem").write_bytes(leaf.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(private)
    return folder / "ca.pem"

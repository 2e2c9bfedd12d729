"""A PostgreSQL cluster of its own on loopback, run by an unprivileged user, stopped by its process id."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from curation.errors import OutsideError

READY_S = 30.0
STOP_S = 15.0
_DEBIAN = Path("/usr/lib/postgresql")


def binaries() -> Path | None:
    """The folder of `postgres` and `initdb`, of the newest version there is; None where there is none."""
    found = shutil.which("postgres")
    folders = [Path(found).parent] if found else [folder / "bin" for folder in sorted(_DEBIAN.glob("*"), reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


MISSING = None if binaries() is not None else "no PostgreSQL server is installed (apt-get install postgresql)"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running cluster with one superuser."""

    port: int
    password: str

    def uri(self, user: str = "owner") -> str:
        """What SQLAlchemy connects to, without a password."""
        return f"postgresql+psycopg2://{user}@127.0.0.1:{self.port}/postgres"

    def run(self, *statements: str) -> None:
        """Run statements as the superuser."""
        with contextlib.closing(self._connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)

    def _connect(self) -> psycopg2.extensions.connection:
        return psycopg2.connect(host="127.0.0.1", port=self.port, user="owner", password=self.password, dbname="postgres")


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster; stopped on exit.

    Raises:
        OutsideError: it is not ready in time; names its log.
    """
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # its user must reach it, and pytest's folders are private
    try:
        with _served(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[Cluster]:
    bin_folder, password = binaries(), secrets.token_hex(16)
    assert bin_folder is not None
    (folder / "password").write_text(password)
    user = _unprivileged(folder)
    base = ["-D", str(folder / "data")]
    initdb = [str(bin_folder / "initdb"), *base, "-U", "owner", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, user=user, env={"LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}, cwd=folder)
    port = _free_port()
    settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off", "shared_buffers=16MB"]
    command = [str(bin_folder / "postgres"), *base, "-p", str(port), *(word for one in settings for word in ("-c", one))]
    cluster = Cluster(port=port, password=password)
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log, user=user, cwd=folder) as process:
        try:
            _wait(process, cluster, folder / "log")
            yield cluster
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _unprivileged(folder: Path) -> str | None:
    """The user who runs the cluster, whose folder it is now; None for this one."""
    if os.geteuid() != 0:
        return None
    name = "postgres" if "postgres" in {one.pw_name for one in pwd.getpwall()} else "nobody"
    for path in (folder, folder / "password"):
        shutil.chown(path, name)
    return name


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], cluster: Cluster, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(psycopg2.OperationalError):
            cluster.run("select 1")
            return
        time.sleep(0.05)
    raise OutsideError(f"is not ready: {log.read_text()[-2000:]}", subject="PostgreSQL", fix="see whether `postgres` runs on this machine")

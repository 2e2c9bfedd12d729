"""The overseas catalog behind a process of its own: that process has the keys, this one has the data, and neither has both.

Nothing of this process's environment reaches the other but what `environment` names. Rows to publish are not sent to it either: it reads
them from the release's folder, and only if their approval holds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import IO, Any, Final

import pyarrow as pa

from curation import pipe
from curation.errors import OutsideError
from curation.records import OverseasTable, SnapshotInfo, UpkeepCount
from curation.settings import ProfileCredentials, PublisherSettings, S3StoreSettings, VariableCredentials

_PASSED: Final = ("PATH", "LANG", "LC_ALL", "TMPDIR", "CURATION_NOW")
_PROFILE: Final = ("HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")  # where a named profile is looked up
# Stores that are neither AWS nor SeaweedFS refuse the checksums that Arrow sends by default; what was written is read back anyway.
_FIXED: Final = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}
_STOP_S: Final = 10.0


def environment(settings: PublisherSettings, env: Mapping[str, str]) -> dict[str, str]:
    """All that the publishing process is given of an environment: where programs are, the clock of tests, its own keys to its release."""
    names = set(_PASSED)
    if isinstance(settings.store, S3StoreSettings):
        found = settings.store.credentials
        if isinstance(found, ProfileCredentials):
            names.update(_PROFILE)
        elif isinstance(found, VariableCredentials):
            names.update(filter(None, (found.access_key_variable, found.secret_key_variable, found.session_token_variable)))
    return {name: env[name] for name in sorted(names & env.keys())} | _FIXED


class ProcessCatalog:
    """Asks `python -m curation.publisher` for everything. Implements `ports.OverseasCatalog` and `ports.Upkeep`.

    The process is started by the first question, again after its death, and ends with this object, or when this process does.
    """

    def __init__(self, settings: PublisherSettings, *, env: Mapping[str, str] = os.environ) -> None:
        """Nothing is started yet."""
        self._settings = settings
        self._env = env
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def identify(self, table: str) -> OverseasTable | None:
        """Which table it is and how far it has come, None where there is none of that name."""
        found: OverseasTable | None = self._ask("identify", table=table)
        return found

    def make(self, table: str) -> OverseasTable:
        """The table of that name, made empty where there is none."""
        found: OverseasTable = self._ask("make", table=table)
        return found

    def anchor(self, table: str, head: str, *, table_uuid: str) -> None:
        """Note in the table the head of the home ledger; as `ports.OverseasCatalog`."""
        self._ask("anchor", table=table, head=head, table_uuid=table_uuid)

    def find(self, table: str, release_id: str) -> SnapshotInfo | None:
        """The snapshot that carries the release, None if it was never committed."""
        found: SnapshotInfo | None = self._ask("find", table=table, release_id=release_id)
        return found

    def append(self, table: str, rows: pa.Table, *, properties: Mapping[str, str]) -> SnapshotInfo:  # noqa: ARG002 - it reads its own
        """Commit the rows of the release that the properties name, as they lie in its folder.

        Raises:
            ApprovalRefused: the release's approval does not cover its bytes now.
            ConcurrentChange: another writer was faster; look again with `find`.
        """
        info: SnapshotInfo = self._ask("append", table=table, properties=properties)
        return info

    def written(self, table: str, snapshot_id: int) -> Sequence[tuple[str, bytes]]:
        """Names and bytes of the data files that this snapshot added, as the catalog wrote them."""
        return [(name, data) for name, data in self._ask("written", table=table, snapshot_id=snapshot_id)]

    def withdraw(self, table: str, snapshot_id: int) -> None:
        """Take back all rows that this snapshot added."""
        self._ask("withdraw", table=table, snapshot_id=snapshot_id)

    def withdraw_rows(self, table: str, row_ids: pa.Array) -> int:
        """How many rows of these release_row_ids were published; none of their bytes is left."""
        count: int = self._ask("withdraw_rows", table=table, row_ids=row_ids)
        return count

    def holding(self, table: str, row_ids: pa.Array) -> Sequence[str]:
        """Names of the files overseas that still hold one of these ids, decoded or as bytes."""
        names: Sequence[str] = self._ask("holding", table=table, row_ids=row_ids)
        return names

    def read(self, table: str) -> pa.Table:
        """All rows published now."""
        return self._ask("read", table=table)

    def keep_up(self, table: str, *, pins: Mapping[str, int], keep_s: float, settled: Collection[str] = ()) -> UpkeepCount:
        """What upkeep did to the table; as `ports.Upkeep`."""
        count: UpkeepCount = self._ask("keep_up", table=table, pins=pins, keep_s=keep_s, settled=sorted(settled))
        return count

    def _ask(self, call: str, **arguments: object) -> Any:
        with self._turn:
            process = self._process if self._process is not None and self._process.poll() is None else self._start()
            with ExitStack() as interrupted:
                interrupted.callback(_stop, process)  # else the next question would get this one's answer
                pipe.send(_pipe(process.stdin), {"call": call, "arguments": arguments})
                answer = pipe.receive(_pipe(process.stdout))
                interrupted.pop_all()
        if answer is None:
            raise OutsideError(
                f"the publishing process ended with status {process.wait()}", subject="overseas catalog", fix="run the step again"
            )
        pipe.raise_error(answer)
        return answer["value"]

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "curation.publisher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(self._settings, self._env),
            start_new_session=True,  # a terminal's Ctrl-C reaches this process, which ends the other between two questions
        )
        self._process = process
        weakref.finalize(self, _stop, process)
        pipe.send(_pipe(process.stdin), {"settings": self._settings.model_dump(mode="json")})
        return process


def _pipe(file: IO[bytes] | None) -> IO[bytes]:
    if file is None:
        raise OutsideError("has no pipe", subject="publishing process", fix="run the step again")
    return file


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let the process finish what it does, and end it where that lasts."""
    for file in (process.stdin, process.stdout):
        with suppress(BrokenPipeError):  # it is gone already
            _pipe(file).close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

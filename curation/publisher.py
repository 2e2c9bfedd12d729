"""The process that holds the keys of the overseas catalog: `python -m curation.publisher`, asked through standard input.

It can read one release's folder at a time and nothing else of home. It commits the rows of a release only if an approval covers these very
bytes, whatever it is asked; every other check is made by whoever asks. To close a release, which writes no row, it needs no approval.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any, Final

from curation import pipe, schema, wiring
from curation.approval import check_bound
from curation.errors import ApprovalRefused, CurationError, OutsideError, UsageError
from curation.ports import OverseasCatalog, Upkeep
from curation.records import SnapshotInfo
from curation.release_files import EVIDENCE_FILE, ReleaseFolder
from curation.settings import PublisherSettings
from curation.stages import publish

_CALLS: Final = frozenset(name for port in (OverseasCatalog, Upkeep) for name in vars(port) if not name.startswith("_"))


def answer(settings: PublisherSettings, catalog: OverseasCatalog, call: str, arguments: Mapping[str, Any]) -> Any:
    """What the catalog says to one call.

    Raises:
        UsageError: there is no such call.
        ApprovalRefused: rows are to be appended that no approval covers.
        CurationError: as the catalog's.
    """
    if call not in _CALLS:
        raise UsageError("is no call of an overseas catalog", subject=call, fix="ask for one of curation/ports.py")
    if call == "append":
        return _append(settings, catalog, **arguments)
    method: Callable[..., Any] = getattr(catalog, call)
    return method(**arguments)


def _append(settings: PublisherSettings, catalog: OverseasCatalog, *, table: str, properties: Mapping[str, str]) -> SnapshotInfo:
    if publish.WITHDRAWN_PROPERTY in properties:
        _check_meant(table, properties)
        return catalog.append(table, schema.RELEASE.empty_table(), properties=properties)
    release_id = properties.get(publish.RELEASE_PROPERTY, "")
    folder = ReleaseFolder(wiring.release_store(settings, release_id), release_id)
    check_bound(folder, wiring.clock())
    if properties.get(publish.EVIDENCE_PROPERTY) != folder.digest(EVIDENCE_FILE):
        raise ApprovalRefused(
            "the snapshot would name other evidence", subject=f"release {release_id}", fix="run `curation audit verify`; cut a new release"
        )
    _check_meant(table, properties)
    return catalog.append(table, folder.release(), properties=properties)


def _check_meant(table: str, properties: Mapping[str, str]) -> None:
    """Nothing, if it is said which table is meant; the catalog holds that against the one that lies there."""
    if publish.TABLE_PROPERTY not in properties:
        raise UsageError(f"no {publish.TABLE_PROPERTY} says which one is meant", subject=f"overseas table {table}", fix="name its UUID")


def main() -> None:
    """Answer questions until the one who asks closes the pipe, or is killed: whoever runs next looks what was done."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    questions, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    with suppress(OutsideError, BrokenPipeError), answers:
        _serve(questions, answers)


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    first = pipe.receive(questions)
    if first is None:
        return
    settings = PublisherSettings.model_validate(first["settings"])
    catalog = wiring.overseas_here(settings)
    while (question := pipe.receive(questions)) is not None:
        try:
            said = {"value": answer(settings, catalog, question["call"], question["arguments"])}
        except CurationError as error:
            said = pipe.error_message(error)
        pipe.send(answers, said)


if __name__ == "__main__":
    main()

"""The overseas catalog without its process, for tests of which that process is not the matter: each start of it costs seconds of imports.

That it is a process, which keys it has and what it is told is proved by tests/release/test_process_boundary.py and tests/crash/, and the
command line, the main job on S3 and the demo go through it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation import pipe, pipeline, proofs, publisher, wiring
from curation.adapters.catalog_process import ProcessCatalog
from curation.demo import law, run_demo
from curation.errors import CurationError
from curation.settings import Settings


def _through_a_pipe(message: object) -> Any:
    file = io.BytesIO()
    pipe.send(file, message)
    file.seek(0)
    return pipe.receive(file)


def _ask(asked: ProcessCatalog, call: str, **arguments: object) -> Any:
    question = _through_a_pipe({"call": call, "arguments": arguments})
    try:
        if "here" not in vars(asked):
            vars(asked)["here"] = wiring.overseas_here(asked._settings)
        said = {"value": publisher.answer(asked._settings, vars(asked)["here"], question["call"], question["arguments"])}
    except CurationError as error:
        said = pipe.error_message(error)
    answer = _through_a_pipe(said)
    pipe.raise_error(answer)
    return answer["value"]


@pytest.fixture(scope="module")
def publisher_here() -> Iterator[None]:
    """What the publishing process is asked is answered by the same function in this process, through the same messages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProcessCatalog, "_ask", _ask)
        yield


def approved_release(work: Path, rows: pa.Table, patch: pytest.MonkeyPatch) -> tuple[Settings, str]:
    """Settings of a new folder `work` and the id of its one release, of these rows, which is approved and not yet published."""
    run_demo._write_settings(work, work / "clips", None, law.make(work / "home" / "law", fences=None, now=wiring.clock().now()))
    patch.setattr(proofs, "of_release", lambda *_: None)  # what was cut is proved elsewhere; it takes longer than all the rest
    settings = pipeline.open_settings(work)
    catalog = wiring.home(settings).catalog
    catalog.write_branch(settings.curated_table, "test", rows, replace=[], properties={})
    assert catalog.advance(settings.curated_table, "test")
    release_id = pipeline.cut_release(settings, requesters=["engineer"])
    pipeline.approve(settings, release_id, approver="officer", ticket="T-1")
    return settings, release_id

"""OpenLineage events, appended to a file at home or sent to a server at home.

The client's own look-up of transports, tags and variables is left out: an environment must not send events elsewhere, nor put more in them.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.generated.base import DatasetFacet, OutputDatasetFacet, RunFacet
from openlineage.client.generated.column_lineage_dataset import ColumnLineageDatasetFacet, Fields, InputField, Transformation
from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider
from requests import RequestException, Session

from curation import __version__
from curation.errors import CurationError, OutsideError, SettingsError
from curation.records import LineageRun
from curation.residency.jurisdiction import require_home
from curation.settings import HomeSettings, LineageSettings

NAMESPACE: Final = "dashcam-curation"  # of jobs; of tables with :home or :overseas behind it. A host or folder would lead somewhere
PRODUCER: Final = f"urn:dashcam-curation:{__version__}"
_TIMEOUT_S: Final = 5.0
_DIGITS: Final = 20


@attr.define
class PublicationRunFacet(RunFacet):
    """Which release left under which pack, and which entry of the ledger proves it."""

    pack: str
    facts: dict[str, str]


class OpenLineage:
    """Implements `ports.Lineage`."""

    def __init__(self, settings: LineageSettings, *, folder: Path, home: HomeSettings, env: Mapping[str, str]) -> None:
        """Events to `settings.url` or, without one, to `settings.file`.

        Args:
            settings: where events go.
            folder: the home folder of the work folder; it holds the file by default, and the note of what was told.
            home: the allow-list that the URL must be on.
            env: holds the key that the settings name.

        Raises:
            NotAtHome: the URL leads abroad, or cannot be told for certain.
            SettingsError: the key is not set.
        """
        self._note = folder / "lineage.next"
        self._transport = _http(settings, settings.url, home, env) if settings.url else _file(settings.file or folder / "lineage.jsonl")

    def next_entry(self) -> int:
        """Number of the first ledger entry that was not told of yet.

        Raises:
            CurationError: the note of what was told is not a number.
        """
        return _number(self._note)

    def tell(self, run: LineageRun) -> None:
        """Tell of one run, its beginning and its end; of one that was told before, nothing.

        A kill between the two writes tells it again, under the same run id, which lineage tools take for the same run.

        Raises:
            OutsideError: file or server failed.
        """
        with self._turn() as note:
            if run.sequence < _number(self._note):
                return
            try:
                for state in (RunState.START, RunState.COMPLETE if run.succeeded else RunState.ABORT):
                    self._transport.emit(event_of(run, state))
            except (RequestException, RuntimeError, OSError) as error:  # RuntimeError is what the client's file transport raises
                problem = f"cannot be told ({type(error).__name__})"
                raise OutsideError(problem, subject="lineage", fix="see to [lineage]; the next publication tells the rest") from error
            os.pwrite(note, f"{run.sequence + 1:0{_DIGITS}d}".encode(), 0)

    @contextmanager
    def _turn(self) -> Iterator[int]:
        self._note.parent.mkdir(parents=True, exist_ok=True)
        note = os.open(self._note, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(note, fcntl.LOCK_EX)
            yield note
        finally:
            os.close(note)


def _number(note: Path) -> int:
    text = note.read_text(encoding="ascii", errors="replace") if note.exists() else ""
    if text and not text.isdecimal():
        raise CurationError("is no number", subject=str(note), fix="remove it: everything is told again, under the same run ids")
    return int(text or 0)


def _file(path: Path) -> FileTransport:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=str(path.resolve()), append=True))


def _http(settings: LineageSettings, url: str, home: HomeSettings, env: Mapping[str, str]) -> HttpTransport:
    require_home(subject="[lineage] url", jurisdiction=home.jurisdiction, home_jurisdiction=home.jurisdiction, url=url, home=home)
    session = Session()
    session.trust_env = False  # no proxy or .netrc of the environment comes in between
    session.max_redirects = 0  # a redirect would lead where nobody looked
    auth = TokenProvider({})
    variable = settings.api_key_variable
    if variable is not None:
        if not env.get(variable):
            raise SettingsError(f"{variable} is not set", subject="lineage", fix=f"set {variable}, or remove api_key_variable")
        auth = ApiKeyTokenProvider({"api_key": env[variable]})
    return HttpTransport(HttpConfig(url=url, timeout=_TIMEOUT_S, auth=auth, session=session))


def event_of(run: LineageRun, state: RunState) -> RunEvent:
    """The OpenLineage event of a run's beginning or end.

    The ledger knows when a run ended, not when it began: both events carry that time.
    """
    ended = state is not RunState.START
    facets: dict[str, DatasetFacet] = {"columnLineage": _column_lineage(run)} if run.columns else {}
    statistics: dict[str, OutputDatasetFacet] = (
        {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=run.row_count, producer=PRODUCER)} if ended else {}
    )
    said: dict[str, RunFacet] = {"curation_publication": PublicationRunFacet(pack=run.pack, facts=dict(run.facts), producer=PRODUCER)}
    side = "overseas" if run.source == run.target else "home"
    return RunEvent(
        eventType=state,
        eventTime=run.at,
        run=Run(runId=run.run_id, facets=said),
        job=Job(namespace=NAMESPACE, name=run.job),
        inputs=[InputDataset(namespace=f"{NAMESPACE}:{side}", name=run.source)],
        outputs=[
            OutputDataset(namespace=f"{NAMESPACE}:overseas", name=run.target, facets=facets if ended else {}, outputFacets=statistics)
        ],
        producer=PRODUCER,
    )


def _column_lineage(run: LineageRun) -> ColumnLineageDatasetFacet:
    fields = {}
    for one in run.columns:
        said = f"rule {one.rule} of pack {run.pack} ({run.facts['pack_digest']})"
        made = [Transformation(type="DIRECT", subtype="TRANSFORMATION", description=said)]
        inputs = [InputField(namespace=f"{NAMESPACE}:home", name=run.source, field=source, transformations=made) for source in one.sources]
        fields[one.column] = Fields(inputFields=inputs, transformationDescription=said)
    return ColumnLineageDatasetFacet(fields=fields, producer=PRODUCER)

"""What left is told to lineage tools: tables, columns, rules and packs by name, and nothing that leads to a clip, a row or a machine."""

import json
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent
from openlineage.client.generated.column_lineage_dataset import Fields, InputField, Transformation
from openlineage.client.serde import Serde

from curation import overseas_table
from curation.adapters.lineage_openlineage import OpenLineage
from curation.audit.leaks import home_values
from curation.audit.lineage import runs
from curation.errors import CurationError, EvidenceBroken, NotAtHome, OutsideError, SettingsError
from curation.residency import pack as packs
from curation.schema import RELEASE
from curation.settings import HomeSettings, LineageSettings

TABLES = {"curated_table": "curated.clips", "published_table": "published.clips"}


@pytest.fixture
def published(world, rows):
    """A published release."""
    release_id = world.cut(rows)
    world.approve(release_id)
    world.publish(release_id, rows)
    return release_id


@pytest.fixture
def server():
    """A server on loopback that keeps what it is sent and answers with the status and headers it is told to; `seen` holds the bodies."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.seen.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            self.send_response(self.server.status)
            for name, value in self.server.answer.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        found.seen, found.status, found.answer = [], 201, {}
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def url(server):
    """Its address."""
    return f"http://127.0.0.1:{server.server_address[1]}"


def opened(folder, **settings):
    """A lineage of a work folder."""
    env = {"LINEAGE_KEY": "s3cret"}
    return OpenLineage(LineageSettings(**settings), folder=folder, home=HomeSettings(), env=env)


def tell(world, lineage):
    """Tell all that the ledger knows and lineage does not."""
    for run in runs(list(world.ledger.entries()), world.store, from_entry=lineage.next_entry(), **TABLES):
        lineage.tell(run)


def events(folder):
    """What stands in the file."""
    file = folder / "lineage.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def test_each_column_that_left_is_named_with_its_rule_its_pack_and_what_it_was_made_of(world, published, tmp_path):
    """A run with begin and end; the column-level facet speaks of every column, and of the pack's very inputs."""
    tell(world, opened(tmp_path))
    start, end = events(tmp_path)
    assert ["START", "COMPLETE"] == [start["eventType"], end["eventType"]]
    assert start["run"]["runId"] == end["run"]["runId"] == str(uuid.UUID(end["run"]["runId"]))
    assert ("dashcam-curation", "publish") == (end["job"]["namespace"], end["job"]["name"])
    [source], [target] = end["inputs"], end["outputs"]
    assert ("dashcam-curation:home", "curated.clips") == (source["namespace"], source["name"])
    assert ("dashcam-curation:overseas", "published.clips") == (target["namespace"], target["name"])
    assert 2 == target["outputFacets"]["outputStatistics"]["rowCount"]
    fields = target["facets"]["columnLineage"]["fields"]
    assert set(RELEASE.names) == set(fields)
    evidence = world.folder(published).evidence()
    pack = packs.parse(world.law.pack_bytes)
    for rule in pack.outputs:
        assert set(rule.inputs) == {one["field"] for one in fields[rule.name]["inputFields"]}
        said = f"rule {rule.id} of pack {pack.id} {pack.version} ({evidence['pack']['digest']})"
        assert {said} == {change["description"] for one in fields[rule.name]["inputFields"] for change in one["transformations"]}
        assert said == fields[rule.name]["transformationDescription"]
    assert [] == fields["release_row_id"]["inputFields"]
    facts = end["run"]["facets"]["curation_publication"]["facts"]
    last = world.ledger.head()
    assert (published, f"{last.sequence}:{last.digest()}") == (facts["release_id"], facts["ledger_entry"])


def test_events_are_openlineage_events(world, published, tmp_path):
    """Every line can be built again from the client's own model, which checks ids, times and addresses; none has a key it does not know."""
    tell(world, opened(tmp_path))
    for line in events(tmp_path):
        [source], [target] = line["inputs"], line["outputs"]
        lineage = target["facets"].get("columnLineage", {"fields": {}})
        for one in lineage["fields"].values():
            Fields(**{**one, "inputFields": [InputField(**field) for field in one["inputFields"]]})
            assert all(Transformation(**change) for field in one["inputFields"] for change in field["transformations"])
        made = RunEvent(
            eventType=line["eventType"],
            eventTime=line["eventTime"],
            producer=line["producer"],
            run=Run(**line["run"]),
            job=Job(**line["job"]),
            inputs=[InputDataset(**source)],
            outputs=[OutputDataset(**target)],
        )
        assert line == Serde.to_dict(made)
        assert line["schemaURL"].startswith("https://openlineage.io/spec/")


def test_nothing_leads_to_a_clip_a_row_a_vehicle_or_a_machine(world, rows, published, tmp_path):
    """No raw value of home, no id of a row or clip, no folder, and no address but those of OpenLineage's own schemas."""
    tell(world, opened(tmp_path))
    text = (tmp_path / "lineage.jsonl").read_bytes()
    assert [] == [column for value, column in home_values(rows).items() if value in text]
    assert [] == [name for name in rows["clip_id"].to_pylist() if name.encode() in text]
    assert [] == [name for name in world.folder(published).mapping()["release_row_id"].to_pylist() if name.encode() in text]
    assert str(tmp_path).encode() not in text
    assert {b"openlineage.io"} == set(re.findall(rb"[a-z+]+://([^/\"]*)", text))


def test_what_was_told_is_not_told_again_and_what_was_cut_short_is(world, published, tmp_path):
    """The note says how far; without it the same runs come again under the same ids; a torn note is refused."""
    tell(world, opened(tmp_path))
    first = events(tmp_path)
    tell(world, opened(tmp_path))
    for run in runs(list(world.ledger.entries()), world.store, **TABLES):
        opened(tmp_path).tell(run)
    assert first == events(tmp_path)
    (tmp_path / "lineage.next").unlink()
    tell(world, opened(tmp_path))
    assert first * 2 == events(tmp_path)
    (tmp_path / "lineage.next").write_text("1x")
    with pytest.raises(CurationError, match="no number"):
        opened(tmp_path).next_entry()


def test_a_refused_publication_is_told_as_aborted(world, rows, tmp_path):
    """It names no column, for none left."""
    release_id = world.cut(rows)
    world.approve(release_id)
    overseas_table.begin("published.clips", catalog=world.catalog, store=world.store, ledger=world.ledger)
    world.store.create(f"releases/{release_id}/intent.json", b'{"table": "published.clips"}')
    moved = rows.filter([True, False, True, True])
    with pytest.raises(CurationError):
        world.publish(release_id, moved)
    tell(world, opened(tmp_path))
    [start, end] = events(tmp_path)
    assert ("START", "ABORT") == (start["eventType"], end["eventType"])
    assert ({}, 0) == (end["outputs"][0]["facets"], end["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"])


def test_a_pack_that_is_not_the_one_that_decided_is_not_named(world, published, tmp_path):
    """Lineage repeats no document that the ledger did not record so."""
    [name] = [name for name in world.folder(published).evidence()["files"] if name.endswith(".yaml")]
    path = tmp_path / "home" / name
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"title:", b"title: ", 1).replace(b"province_code", b"video_codec", 1))
    with pytest.raises(CurationError):
        tell(world, opened(tmp_path))
    (tmp_path / "home" / world.folder(published).key("evidence.json")).chmod(0o644)
    (tmp_path / "home" / world.folder(published).key("evidence.json")).write_bytes(b"{}")
    with pytest.raises(EvidenceBroken, match="recorded"):
        tell(world, opened(tmp_path))
    assert [] == events(tmp_path)


def test_a_server_at_home_is_sent_the_events_with_its_key(world, published, tmp_path, server):
    """Both events go to the server, none into the file; once told, nothing more is sent."""
    for _ in range(2):
        tell(world, opened(tmp_path, url=url(server), api_key_variable="LINEAGE_KEY"))
    assert ["START", "COMPLETE"] == [event["eventType"] for _, _, event in server.seen]
    assert {("/api/v1/lineage", "Bearer s3cret")} == {(path, key) for path, key, _ in server.seen}
    assert [] == events(tmp_path)


@pytest.mark.parametrize("abroad", ["https://lineage.example.com", "http://203.0.113.9:5000", "http://127.0.0.1:5000@lineage.example.com"])
def test_a_server_abroad_is_refused_before_anything_is_sent(tmp_path, abroad):
    """The jurisdiction guard looks at the address, not at a label."""
    with pytest.raises(NotAtHome, match=r"\[lineage\] url"):
        opened(tmp_path, url=abroad)


def test_a_redirect_and_a_proxy_are_not_followed(world, published, tmp_path, server, monkeypatch):
    """A server at home that points elsewhere, and an environment that names a proxy, lead nowhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    server.status, server.answer = 307, {"Location": f"{url(server)}/elsewhere"}
    with pytest.raises(OutsideError, match="TooManyRedirects"):
        tell(world, opened(tmp_path, url=url(server)))
    assert ["/api/v1/lineage"] == [path for path, _, _ in server.seen]
    assert 0 == opened(tmp_path).next_entry()
    server.status, server.answer = 403, {}
    with pytest.raises(OutsideError, match="HTTPError"):
        tell(world, opened(tmp_path, url=url(server)))


def test_a_key_that_is_not_set_is_wrong_use(tmp_path):
    """The settings name a variable that holds nothing."""
    with pytest.raises(SettingsError, match="NO_KEY"):
        opened(tmp_path, url="http://127.0.0.1:5000", api_key_variable="NO_KEY")

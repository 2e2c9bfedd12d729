"""A folder is listed completely, read safely, and its sidecars reach the right clips."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curation.adapters.source_folder import FolderSource
from curation.errors import CurationError, OutsideError, SourceUnreachable, UsageError
from curation.records import ListingEntry, Telemetry
from curation.settings import PullSettings

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips"
Put = Callable[..., Path]


def _listed(folder: Path, **options: Any) -> dict[str, ListingEntry]:
    entries = list(FolderSource("s", folder, **options).entries())
    assert sorted(entry.name for entry in entries) == [entry.name for entry in entries]
    found = {entry.name: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def _outcomes(folder: Path, **options: Any) -> dict[str, tuple[str, str | None]]:
    return {name: (entry.kind, entry.reason) for name, entry in _listed(folder, **options).items()}


def test_every_kind_of_entry_is_listed(folder: Path, put: Put, tmp_path: Path) -> None:
    """Clips and sidecars by name, and everything else refused, each with its reason; nothing blocks and nothing is left out."""
    put("a/clip.MP4")
    put("行车记录仪 雨天 №1 (前)'é.mp4")
    put("-dash first.mp4")
    put("a/clip.MP4.json", b"{}")
    put("event/x.mov")
    put("event/event.json", b"{}")
    put("fleet.csv", b"file\n")
    put("notes.txt")
    put("none")
    put("orphan.json", b"{}")
    put("orphan/event.json", b"{}")
    put(".hidden.mp4")
    put(".cache/x.mp4")
    put("dir.mp4/inside.mp4")
    put("big.mp4", b"x" * 101)
    put("broken.mp4")
    put("broken.mp4.json", b"{")
    put("new\nline.mp4")
    put("reversed\u202e4pm.mp4")
    (Path(os.fsdecode(os.fsencode(folder) + b"/bad\xff.mp4"))).write_bytes(b"video")
    os.mkfifo(folder / "fifo.mp4")
    (folder / "dangling.mp4").symlink_to(folder / "nowhere")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "outside.mp4").write_bytes(b"video")
    (folder / "out.mp4").symlink_to(tmp_path / "outside.mp4")
    (folder / "up.mp4").symlink_to(folder.parent)
    (folder / "folder.mp4").symlink_to("a")
    (folder / "within.mp4").symlink_to("a/clip.MP4")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # socket paths are short
        try:
            listener.bind("socket.mp4")
        finally:
            os.chdir(here)
    no_video = "suffix {} is no video's, and it is no sidecar of a clip here".format
    expected = {
        "a/clip.MP4": ("clip", None),
        "行车记录仪 雨天 №1 (前)'é.mp4": ("clip", None),
        "-dash first.mp4": ("clip", None),
        "a/clip.MP4.json": ("sidecar", None),
        "event/x.mov": ("clip", None),
        "event/event.json": ("sidecar", None),
        "fleet.csv": ("sidecar", None),
        "notes.txt": ("refused", no_video(".txt")),
        "none": ("refused", no_video("(none)")),
        "orphan.json": ("refused", no_video(".json")),
        "orphan/event.json": ("refused", no_video(".json")),
        ".hidden.mp4": ("refused", "is hidden"),
        ".cache": ("refused", "is a hidden folder and was not entered"),
        "dir.mp4": ("refused", "is a folder"),
        "dir.mp4/inside.mp4": ("clip", None),
        "big.mp4": ("refused", "is over the size limit of 100 bytes"),
        "broken.mp4": ("clip", None),
        "broken.mp4.json": ("refused", "is a sidecar that is not JSON"),
        "new\\nline.mp4": ("refused", "name holds control characters"),
        "reversed\\u202e4pm.mp4": ("refused", "name holds control characters"),
        "bad\\udcff.mp4": ("refused", "name holds bytes that are no UTF-8"),
        "fifo.mp4": ("refused", "is a FIFO"),
        "socket.mp4": ("refused", "is a socket"),
        "dangling.mp4": ("refused", "is a link that leads nowhere"),
        "loop.mp4": ("refused", "is a link that leads nowhere"),
        "out.mp4": ("refused", "is a link out of the source"),
        "up.mp4": ("refused", "is a link out of the source"),
        "folder.mp4": ("refused", "is a link to a folder"),
        "within.mp4": ("clip", None),
    }
    assert expected == _outcomes(folder, settings=PullSettings(max_clip_bytes=100))


def test_what_may_not_be_read_is_refused(folder: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip without read permission is refused when listed, and becomes a new entry once it may be read."""
    put("a.mp4")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert {"a.mp4": ("refused", "is not readable: permission denied")} == _outcomes(folder)
    monkeypatch.undo()
    assert {"a.mp4": ("clip", None)} == _outcomes(folder)


_NAMES = st.text(st.characters(exclude_characters="/\x00"), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."} and len(os.fsencode(name.encode("utf-8", "surrogatepass"))) < 200
)
_SUFFIXES = st.sampled_from(["", ".mp4", ".MOV", ".json", ".csv", ".txt", "/event.json", "/x.mp4"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(files=st.dictionaries(st.tuples(_NAMES, _SUFFIXES), st.binary(max_size=20), max_size=8))
def test_whatever_lies_in_the_folder_is_accounted_for(tmp_path_factory: pytest.TempPathFactory, files: dict[Any, bytes]) -> None:
    """Each file is one entry of a closed kind, refused ones with a reason, and each name can be written to a table."""
    folder = tmp_path_factory.mktemp("odd")
    for (stem, suffix), data in files.items():
        path = os.fsencode(folder) + b"/" + (stem + suffix).encode("utf-8", "surrogatepass")
        if not os.path.lexists(os.path.dirname(path)):  # noqa: PTH120 - the path is bytes
            os.mkdir(os.path.dirname(path))  # noqa: PTH102, PTH120
        if os.path.isdir(os.path.dirname(path)) and not os.path.isdir(path):  # noqa: PTH112, PTH120
            Path(os.fsdecode(path)).write_bytes(data)
    entries = list(FolderSource("odd", folder).entries())
    hidden = [entry for entry in entries if entry.reason == "is a hidden folder and was not entered"]
    named_folders = [entry for entry in entries if entry.reason == "is a folder"]
    below_hidden = sum(len(files) for at, _, files in os.walk(folder) if Path(at).name.startswith(".") and at != str(folder))
    on_disk = sum(len(files) for _, _, files in os.walk(folder))
    assert on_disk == len(entries) - len(hidden) - len(named_folders) + below_hidden
    for entry in entries:
        assert entry.kind in {"clip", "sidecar", "refused"}
        assert (entry.kind == "refused") == (entry.reason is not None)
        assert entry.name.encode()


def test_the_fleet_beats_the_sidecar_beats_the_event(folder: Path, put: Put) -> None:
    """Each field comes from the most trusted file that has it, and the clock of the time is named."""
    put("e/2026-09-01_08-00-00-back.mp4")
    put("e/event.json", json.dumps({"timestamp": "2026-09-01T08:05:00", "est_lat": "31.3", "est_lon": "120.6"}))
    put("e/2026-09-01_08-00-00-back.json", json.dumps({"vin": "from sidecar", "plate": "from sidecar", "note": "x"}))
    put("fleet.csv", "file,plate,captured_at,colour\ne/2026-09-01_08-00-00-back.mp4,from fleet,2026-09-01T08:00:01+08:00,red\n")
    source = FolderSource("s", folder)
    (told,) = [entry.telemetry for entry in source.entries() if entry.kind == "clip"]
    assert ("from fleet", "from sidecar", "back") == (told.plate, told.vin, told.camera)
    assert (31.3, 120.6, "unknown") == (told.latitude_deg, told.longitude_deg, told.datum)
    assert ("fleet.csv", "2026-09-01T00:00:01+00:00") == (told.captured_at_source, told.captured_at and told.captured_at.isoformat())
    assert told.drive_id == "e"
    assert {"colour": 1, "note": 1} == source.dropped_keys
    assert {} == source.malformed_values


def test_clips_of_one_event_share_time_place_and_drive(folder: Path, put: Put) -> None:
    """The name's clock beats the event's moment; a clip without a time in its name falls back to it, and says so."""
    for camera in ("front", "back"):
        put(f"SavedClips/2026-09-01_08-10-00/2026-09-01_08-00-00-{camera}.mp4")
    put("SavedClips/2026-09-01_08-10-00/extra.mp4")
    put(
        "SavedClips/2026-09-01_08-10-00/event.json", json.dumps({"timestamp": "2026-09-01T08:09:00", "est_lat": "31.3", "est_lon": "120.6"})
    )
    told = {name.rpartition("/")[2]: entry.telemetry for name, entry in _listed(folder).items() if entry.kind == "clip"}
    assert {"SavedClips/2026-09-01_08-10-00"} == {one.drive_id for one in told.values()}
    assert {31.3} == {one.latitude_deg for one in told.values()}
    assert told["2026-09-01_08-00-00-front.mp4"].captured_at_source == "file name (Asia/Shanghai assumed)"
    assert told["extra.mp4"].captured_at_source == "event.json (Asia/Shanghai assumed)"


def test_sidecars_that_contradict_each_other_tell_no_place(folder: Path, put: Put) -> None:
    """The fleet says Suzhou and the clip's JSON Beijing: neither is taken over, and the listing counts it; what they agree on stays."""
    put("fleet.csv", "file,latitude_deg,longitude_deg,datum,vehicle_id\na.mp4,31.3,120.6,WGS-84,v1\nb.mp4,31.3,120.6,WGS-84,v1\n")
    for name, place in (("a", {"latitude_deg": 39.9, "longitude_deg": 116.4}), ("b", {"latitude_deg": 31.31, "longitude_deg": 120.6})):
        put(f"{name}.mp4")
        put(f"{name}.json", json.dumps(place))
    source = FolderSource("s", folder)
    told = {entry.name: entry.telemetry for entry in source.entries()}
    assert (None, None, None, "v1") == tuple(
        getattr(told["a.mp4"], name) for name in ("latitude_deg", "longitude_deg", "datum", "vehicle_id")
    )
    assert (31.3, 120.6, "WGS-84") == (told["b.mp4"].latitude_deg, told["b.mp4"].longitude_deg, told["b.mp4"].datum)
    assert {"places of one clip that lie over 20 km apart": 1} == source.malformed_values


def test_a_fleet_row_finds_its_clip_by_path_or_by_a_name_of_its_own(folder: Path, put: Put) -> None:
    """A bare file name fits only where one clip is called so; a row of no clip is counted."""
    for name in ("a/same.mp4", "b/same.mp4", "c/own.mp4", "top.mp4", "d/top.mp4"):
        put(name)
    put("fleet.csv", "file,plate\nsame.mp4,X\nown.mp4,OWN\na/same.mp4,A\ntop.mp4,TOP\nx/own.mp4,NO\n")
    source = FolderSource("s", folder)
    plates = {entry.name: entry.telemetry.plate for entry in source.entries() if entry.kind == "clip"}
    assert {"a/same.mp4": "A", "b/same.mp4": None, "c/own.mp4": "OWN", "top.mp4": "TOP", "d/top.mp4": None} == plates
    assert {"file that names no one clip of the source": 2} == source.malformed_values


def test_a_sidecar_belongs_to_one_clip(folder: Path, put: Put) -> None:
    """`<stem>.json` is read only where one clip has the stem, and not beside the clip's own `<clip>.json`."""
    for name in ("two.mp4", "two.mov", "one.avi", "own.mp4", "own2.mov"):
        put(name)
    for name in ("two.json", "one.json", "own.json", "own.mp4.json", "own2.json", "own2.mov.json"):
        put(name, json.dumps({"plate": name}))
    entries = _listed(folder)
    assert {"two.mp4": None, "two.mov": None, "one.avi": "one.json", "own.mp4": "own.mp4.json", "own2.mov": "own2.mov.json"} == {
        name: entry.telemetry.plate for name, entry in entries.items() if entry.kind == "clip"
    }
    refused = {name: entry.reason for name, entry in entries.items() if entry.kind == "refused"}
    assert {
        "two.json": "stands beside several clips of that name: call it <clip>.<suffix>.json",
        "own.json": "is not read: own.mp4.json stands beside the same clip",
        "own2.json": "is not read: own2.mov.json stands beside the same clip",
    } == refused


def test_a_fleet_from_elsewhere_takes_the_place_of_the_folders_own(folder: Path, put: Put, tmp_path: Path) -> None:
    """A named fleet file outside the folder is used; the folder's own fleet.csv is then refused, not read."""
    put("a.mp4")
    put("fleet.csv", "file,plate\na.mp4,inside\n")
    fleet = tmp_path / "other.csv"
    fleet.write_text("file,plate\na.mp4,outside\n")
    entries = _listed(folder, fleet=fleet)
    assert "outside" == entries["a.mp4"].telemetry.plate
    assert "refused" == entries["fleet.csv"].kind
    inside = put("lists/mine.csv", "file,plate\na.mp4,mine\n")
    entries = _listed(folder, fleet=inside)
    assert ("mine", "sidecar") == (entries["a.mp4"].telemetry.plate, entries["lists/mine.csv"].kind)


def test_a_source_that_cannot_be_is_wrong_use(folder: Path, put: Put, tmp_path: Path) -> None:
    """No folder, no fleet file, a name no batch id can begin with, or a broken fleet: each is refused with its fix."""
    for make in (
        lambda: FolderSource("s", tmp_path / "none"),
        lambda: FolderSource("s", folder, fleet=tmp_path / "none.csv"),
        lambda: FolderSource("../s", folder),
        lambda: FolderSource("", folder),
    ):
        with pytest.raises(UsageError, match="Fix"):
            make()
    put("fleet.csv", "name,plate\n")
    with pytest.raises(UsageError, match=r"fleet\.csv: has no column file"):
        list(FolderSource("s", folder).entries())


def test_bytes_come_in_chunks_and_by_a_safe_way(folder: Path, put: Put) -> None:
    """A clip is read whole through its own path or through a link within the tree, and its address is encoded."""
    data = bytes(range(256)) * 8192
    put("a b/c.mp4", data)
    (folder / "l.mp4").symlink_to("a b/c.mp4")
    source = FolderSource("s", folder)
    for entry in source.entries():
        with source.open(entry) as chunks:
            read = list(chunks)
        assert data == b"".join(read)
        assert max(map(len, read)) <= 1024 * 1024
    assert source.uri(next(iter(source.entries()))) == f"{folder.resolve().as_uri()}/a%20b/c.mp4"


def test_an_entry_that_is_not_what_was_listed_is_refused(folder: Path, put: Put, tmp_path: Path) -> None:
    """Vanished, rewritten, replaced by a FIFO, or led out of the tree by a link: each says so, and none blocks or leaks."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.mp4").write_bytes(b"video")
    for name in ("gone.mp4", "rewritten.mp4", "fifo.mp4", "link.mp4", "sub/x.mp4"):
        put(name)
    source = FolderSource("s", folder)
    entries = {entry.name: entry for entry in source.entries()}
    for name in ("gone.mp4", "fifo.mp4", "link.mp4", "sub/x.mp4"):
        (folder / name).unlink()
    put("rewritten.mp4", b"video, longer")
    os.mkfifo(folder / "fifo.mp4")
    (folder / "link.mp4").symlink_to(tmp_path / "secret" / "x.mp4")
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(tmp_path / "secret")
    problems = {
        "gone.mp4": "vanished",
        "rewritten.mp4": "changed since it was listed",
        "fifo.mp4": "no regular file",
        "link.mp4": "out of the source",
        "sub/x.mp4": "out of the source",
    }
    for name, problem in problems.items():
        with pytest.raises(CurationError, match=problem) as caught, source.open(entries[name]):
            pass
        assert not caught.value.retryable, name


@pytest.mark.parametrize("change", ["grows", "shrinks", "is replaced"])
def test_a_clip_that_changes_while_it_is_read_may_be_tried_again(folder: Path, put: Put, change: str) -> None:
    """Growing, shrinking or being replaced between the first chunk and the last is noticed."""
    path = put("a.mp4", b"x" * (3 * 1024 * 1024))
    source = FolderSource("s", folder)
    (entry,) = source.entries()
    with source.open(entry) as chunks:
        next(chunks)
        if change == "grows":
            with path.open("ab") as file:
                file.write(b"more")
        elif change == "shrinks":
            os.truncate(path, 5)
        else:
            other = put("b.mp4", path.read_bytes())
            os.utime(other, ns=(0, entry.modified_ns))
            other.replace(path)
        with pytest.raises(OutsideError, match="changed while it was read"):
            list(chunks)


def test_a_source_that_is_gone_says_nothing_of_its_entries(folder: Path, put: Put) -> None:
    """Without its folder, neither listing nor reading concludes anything: both say that the source is out of reach."""
    put("a.mp4")
    source = FolderSource("s", folder)
    (entry,) = source.entries()
    folder.rename(folder.with_name("unmounted"))
    with pytest.raises(SourceUnreachable):
        list(source.entries())
    with pytest.raises(SourceUnreachable), source.open(entry):
        pass


@pytest.mark.clips
@pytest.mark.skipif(not CLIPS.exists(), reason="the shared real clips are not beside the project")
def test_the_real_clips_all_find_their_row() -> None:
    """18 clips, a fleet file from elsewhere: every one has its vehicle, all but S15 a fix, and nothing is dropped."""
    source = FolderSource("real", CLIPS / "videos", fleet=CLIPS / "fleet.csv")
    entries = list(source.entries())
    assert (18, {"clip"}) == (len(entries), {entry.kind for entry in entries})
    assert all(entry.telemetry.vehicle_id and entry.telemetry.captured_at for entry in entries)
    assert ["S15"] == [entry.name[:3] for entry in entries if entry.telemetry.latitude_deg is None]
    assert ({}, {}) == (source.dropped_keys, source.malformed_values)
    assert Telemetry() != entries[0].telemetry

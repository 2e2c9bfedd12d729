"""The rendered fleet: TeslaCam folders, sidecars, faults on purpose, and the truth about each file."""

import csv
import json
import re
from datetime import datetime

import pytest

from curation.adapters.clock_system import SystemClock
from curation.adapters.source_folder import FolderSource
from curation.adapters.tagger_picture import PictureTagger
from curation.adapters.video_av import AvVideoReader
from curation.adapters.video_writer_av import PyAvVideoWriter
from curation.demo import fleet
from curation.demo.fleet import CLIP_KEYS, ClipFormat, make_fleet
from curation.errors import UsageError
from curation.schema import DATUMS
from curation.settings import InspectSettings
from curation.stages.inspect_clips import inspect_clip

TINY = ClipFormat(width_px=96, height_px=64, fps=8, duration_s=1.0)
FEW = ("city-day", "text", "empty", "duplicate")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The whole fleet in tiny pictures, and its truth."""
    root = tmp_path_factory.mktemp("fleet") / "rendered"
    return root, make_fleet(root, writer=PyAvVideoWriter(), clip_format=TINY)


def tree(root):
    """Path -> bytes of every file."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rows(root):
    """Rows of fleet.csv."""
    with (root / "fleet.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_entry_has_its_truth_and_every_truth_its_entry(made):
    """Nothing stands there unaccounted for."""
    root, truth = made
    assert set(tree(root)) | {"clip.mp4"} == set(truth.files)
    assert (root / "clip.mp4").is_dir()


def test_clips_lie_as_teslacam_lays_them(made):
    """vehicle/TeslaCam/SavedClips/<time>/<time>-<camera>.mp4, with an event.json beside."""
    root, truth = made
    clips = [name for name in truth.files if name.endswith(("front.mp4", "back.mp4"))]
    stamp = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
    shape = re.compile(rf"car-\d\d/TeslaCam/(SavedClips|SentryClips)/({stamp})/\2-(front|back)\.mp4")
    assert len(clips) == len(CLIP_KEYS)
    for name in clips:
        assert shape.fullmatch(name), name
        event = json.loads((root / name).with_name("event.json").read_text(encoding="utf-8"))
        assert ["timestamp", "city", "est_lat", "est_lon", "reason", "camera"] == list(event)
        assert datetime.fromisoformat(event["timestamp"]).tzinfo is None
        assert all(isinstance(value, str) for value in event.values())


def test_fleet_csv_is_complete_and_shape_valid(made):
    """The columns of the design, every clip once, values that have the shape of real ones."""
    root, _ = made
    found = rows(root)
    assert list(fleet.FLEET_COLUMNS) == list(found[0])
    assert len({row["file"] for row in found}) == len(found) == len(CLIP_KEYS)
    for row in found:
        assert re.fullmatch(r"[A-HJ-NPR-Z0-9]{17}", row["vin"])
        assert re.fullmatch(r"[\u4e00-\u9fff][A-Z][A-Z0-9]{5}", row["plate"])
        assert row["captured_at"].endswith("+08:00")
        assert row["datum"] in {*DATUMS, ""}
        assert datetime.fromisoformat(row["captured_at"]).strftime("%Y-%m-%d_%H-%M-%S") in row["file"]


def test_the_awkward_fixes_are_there(made):
    """One without a fix, one at 0/0, one in GCJ-02, one of 900 m error, one inside an invented fence."""
    root, truth = made
    found = {row["file"]: row for row in rows(root)}
    by_rule = {}
    for name, file in truth.files.items():
        by_rule.setdefault(file.withheld_by, []).append(found.get(name))
    places = [(row["latitude_deg"], row["longitude_deg"]) for row in by_rule["geofence.missing_fix"]]
    assert sorted(places) == [("", ""), ("0.0", "0.0")]
    assert [row["datum"] for row in by_rule["geofence.datum"]] == ["GCJ-02"]
    assert [row["gnss_error_m"] for row in by_rule["geofence.gnss_error"]] == ["900.0"]
    west, south, east, north = fleet._FENCES[0][3]
    (caught,) = by_rule["geofence.inside"]
    assert west < float(caught["longitude_deg"]) < east
    assert south < float(caught["latitude_deg"]) < north
    assert json.loads((root / "fences.geojson").read_text(encoding="utf-8"))["features"][0]["properties"]["buffer_m"] == 1000


def test_released_cells_hold_two_vehicles_and_the_lonely_one_is_withheld(made):
    """With k = 2 some are released and one is withheld for its cell."""
    root, truth = made
    released = {name for name, file in truth.files.items() if file.residency == "released"}
    lonely = {name for name, file in truth.files.items() if file.withheld_by == "combination"}
    assert len(released) == 10
    assert len(lonely) == 1
    vehicles = {row["file"]: (row["vehicle_id"], row["captured_at"][:7], round(float(row["longitude_deg"] or 0), 1)) for row in rows(root)}
    cells = {}
    for name in released | lonely:
        cells.setdefault(vehicles[name][1:], set()).add(vehicles[name][0])
    assert sorted(len(found) for found in cells.values()) == [1, 2, 2, 2, 3]


def test_broken_files_are_broken_as_promised(made):
    """Text, nothing, a copy, and the beginning of a clip."""
    root, truth = made
    files = {file.reason: (root / name).read_bytes() for name, file in truth.files.items() if file.verdict in {"quarantined", "duplicate"}}
    original = next(root / name for name in truth.files if name.endswith("08-00-00-front.mp4"))
    assert files["city-day"] == original.read_bytes()
    empty = [name for name in truth.files if name.endswith(".mp4") and (root / name).is_file() and not (root / name).stat().st_size]
    assert len(empty) == 1
    assert truth.files[empty[0]].verdict == "quarantined"


def test_the_folder_source_lists_what_the_truth_says(made):
    """Clips, sidecars and refused entries; fleet.csv beats event.json."""
    root, truth = made
    listed = {entry.name: entry for entry in FolderSource("demo", root).entries()}
    assert set(listed) == set(truth.files)
    for name, file in truth.files.items():
        expected = file.verdict if file.verdict in {"sidecar", "refused"} else "clip"
        assert (name, expected) == (name, listed[name].kind)
    clip = next(entry for name, entry in listed.items() if truth.files[name].withheld_by == "geofence.datum")
    assert clip.telemetry.datum == "GCJ-02"
    assert clip.telemetry.captured_at_source == "fleet.csv"


def test_two_fleets_are_equal_to_the_byte(tmp_path):
    """Nothing but the arguments decides a file."""
    for name in ("a", "b"):
        make_fleet(tmp_path / name, writer=PyAvVideoWriter(), clip_format=TINY, only=FEW)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    make_fleet(tmp_path / "b", writer=PyAvVideoWriter(), clip_format=TINY, only=FEW, seed=8)
    assert tree(tmp_path / "a") != tree(tmp_path / "b")


class NoWriter(PyAvVideoWriter):
    """Says so when it is used."""

    def write(self, path, frames, *, fps, skip=frozenset()):
        """Fail."""
        pytest.fail("rendered again")


def test_an_equal_fleet_is_kept_and_a_damaged_one_is_made_again(tmp_path):
    """The second call renders nothing; after a byte changed it renders again; earlier files of another choice go."""
    root = tmp_path / "rendered"
    make_fleet(root, writer=PyAvVideoWriter(), clip_format=TINY, only=FEW)
    before = tree(root)
    NoWriter.__name__ = PyAvVideoWriter.__name__
    make_fleet(root, writer=NoWriter(), clip_format=TINY, only=FEW)
    clip = next(root.rglob("*08-00-00-front.mp4"))
    clip.write_bytes(clip.read_bytes()[:-1])
    make_fleet(root, writer=PyAvVideoWriter(), clip_format=TINY, only=FEW)
    assert before == tree(root)
    truth = make_fleet(root, writer=PyAvVideoWriter(), clip_format=TINY, only=("text",))
    assert set(tree(root)) | {"clip.mp4"} == set(truth.files)


def test_foreign_files_are_never_touched(tmp_path):
    """A folder that holds anything else is refused."""
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / "holiday.mp4").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"holiday\.mp4"):
        make_fleet(tmp_path / "rendered", writer=PyAvVideoWriter(), clip_format=TINY, only=FEW)
    assert tree(tmp_path / "rendered") == {"holiday.mp4": b"mine"}


def test_wrong_choices_are_refused(tmp_path):
    """An unknown clip, a copy without its original, no clip at all, and a truth among the clips."""
    for only in (("nonsense",), ("duplicate",), ()):
        with pytest.raises(UsageError, match="choose from"):
            make_fleet(tmp_path / "rendered", writer=PyAvVideoWriter(), clip_format=TINY, only=only)
    with pytest.raises(UsageError, match="outside"):
        make_fleet(tmp_path / "rendered", writer=PyAvVideoWriter(), only=FEW, truth=tmp_path / "rendered" / "truth.json")
    assert not (tmp_path / "rendered").exists()


def test_the_truth_is_written_beside_on_request(tmp_path):
    """As JSON, one object per file."""
    truth = make_fleet(tmp_path / "rendered", writer=PyAvVideoWriter(), clip_format=TINY, only=("text",), truth=tmp_path / "truth.json")
    plain = json.loads((tmp_path / "truth.json").read_text(encoding="utf-8"))
    assert set(truth.files) == set(plain["files"])
    assert plain["frame_count"] == 8


def test_inspection_finds_the_faults_that_were_made(tmp_path):
    """The real inspector gives the verdict and the reason of the truth, clean clips by day and night included."""
    keys = ("black", "frozen", "blurred", "dropped", "truncated", "highway-overcast", "city-night")
    form = ClipFormat(width_px=640, height_px=360, fps=10, duration_s=2.0)
    truth = make_fleet(tmp_path / "rendered", writer=PyAvVideoWriter(), clip_format=form, only=keys)
    for name, file in truth.files.items():
        if file.verdict not in {"accepted", "rejected"}:
            continue
        found = inspect_clip(
            tmp_path / "rendered" / name, video=AvVideoReader(), tagger=PictureTagger(), policy=InspectSettings(), clock=SystemClock()
        )
        assert (name, file.verdict) == (name, found.verdict)
        assert file.reason is None or file.reason in found.reasons
        if file.verdict == "accepted":
            assert file.timeofday == found.tags.timeofday
            assert found.signals["sharpness"] > 50
            assert 1 < found.signals["noise_sigma"] < 5

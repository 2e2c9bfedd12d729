"""The gate: a leak suite of mutations over tables and written files, each refused by name, no value ever quoted."""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import GateRefused
from curation.residency import gate
from curation.residency.generalise import GENERALISATIONS, MAX_DURATION_S
from curation.residency.pack import Pack
from curation.schema import RELEASE
from curation.tables import to_parquet

Row = dict[str, Any]
NAME = "00000-0-f7c3abb6-1468-4b43-981b-d9e3b1de864f.parquet"
CLIP_ID = hashlib.sha256(b"clip 1").hexdigest()


@pytest.fixture
def home(clips: Callable[..., pa.Table], clip_row: Callable[..., Row]) -> pa.Table:
    """The clips that the release was made from."""
    track = [{"offset_s": 0.5, "latitude_deg": 30.987654, "longitude_deg": 120.123456}]
    return clips(clip_row(1, track=track), clip_row(2))


def _cell(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        position = table.column_names.index(name)
        values = [value, *table.column(name).to_pylist()[1:]]
        return table.set_column(position, RELEASE.field(name).with_nullable(True), pa.array(values, RELEASE.field(name).type))  # noqa: FBT003

    return change


def _typed(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


def _more(name: str, values: list[Any]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.append_column(name, pa.array(values))


def _noted(note: dict[bytes, bytes]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.replace_schema_metadata({**table.schema.metadata, **note})


def _field_noted(name: str, key: bytes, value: bytes) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        position = table.column_names.index(name)
        field = table.schema.field(position)
        return table.set_column(position, field.with_metadata({**field.metadata, key: value}), table.column(position))

    return change


def _ids(*values: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(0, RELEASE.field(0), pa.array(values, pa.string()))


def _uuid1() -> str:
    return uuid.uuid1(node=0x001A2B3C4D5E).hex


# mutation -> (change, what the refusal must name)
MUTATIONS: dict[str, tuple[Callable[[pa.Table], pa.Table], str]] = {
    "new column": (_more("city", ["Shanghai"] * 2), "'city'"),
    "clip id column": (_more("clip_id", [CLIP_ID] * 2), "'clip_id'"),
    "embedding list": (_more("embedding", [[0.1, 0.2]] * 2), "'embedding'"),
    "thumbnail bytes": (_more("thumbnail", [b"\xff\xd8\xff"] * 2), "'thumbnail'"),
    "nested struct": (_more("extra", [{"at": {"lat": 31.2}}] * 2), "'extra'"),
    "null typed column": (_more("note", [None] * 2), "'note'"),
    "withheld-by column": (_more("withheld_by", [["geofence.inside"]] * 2), "'withheld_by'"),
    "look-alike name": (lambda t: t.rename_columns(["sсene" if n == "scene" else n for n in t.column_names]), "s\\u0441ene"),  # noqa: RUF001
    "zero-width name": (lambda t: t.rename_columns(["scene\u200b" if n == "scene" else n for n in t.column_names]), "scene\\u200b"),
    "upper-case name": (lambda t: t.rename_columns(["Scene" if n == "scene" else n for n in t.column_names]), "'Scene'"),
    "column twice": (lambda t: t.append_column("scene", t.column("scene")), "columns"),
    "column gone": (lambda t: t.drop_columns(["weather"]), "weather"),
    "columns swapped": (lambda t: t.select([*t.column_names[:-2], "scene", "weather"]), "order"),
    "retyped to struct": (_typed("scene", pa.array([{"a": "highway"}] * 2)), "scene"),
    "retyped to list": (_typed("scene", pa.array([["highway"]] * 2)), "scene"),
    "retyped to dictionary": (_typed("scene", pa.array(["highway"] * 2).dictionary_encode()), "scene"),
    "retyped to bytes": (_typed("scene", pa.array([b"highway"] * 2)), "scene"),
    "duration as float": (_typed("duration_s", pa.array([12.345, 12.345])), "duration_s"),
    "month as time": (_typed("month", pa.array([datetime(2026, 9, 1, tzinfo=UTC)] * 2)), "month"),
    "GPS in scene": (_cell("scene", "31.245932,121.473167"), "scene"),
    "GPS in province": (_cell("province", "31.2459,121.4731"), "province"),
    "geohash in province": (_cell("province", "wtw3sjq6q"), "province"),
    "VIN in a tag": (_cell("weather", "LRWMUZFYEAML00001"), "weather"),
    "plate from OCR": (_cell("timeofday", "浙AK1D0001"), "timeofday"),
    "URL in codec": (_cell("video_codec", "https://home.example/clips/aa"), "video_codec"),
    "handle in codec": (_cell("video_codec", "clips/aa/1.mp4"), "video_codec"),
    "raw sharpness": (_cell("sharpness", "210.5"), "sharpness"),
    "caption in scene": (_cell("scene", "white car passes the gate of the ministry"), "scene"),
    "reason code in scene": (_cell("scene", "geofence.inside"), "scene"),
    "look-alike word": (_cell("scene", "hіghway"), "scene"),  # noqa: RUF001 - Cyrillic i
    "full-width word": (_cell("weather", "ｃｌｅａｒ"), "weather"),  # noqa: RUF001
    "zero-width word": (_cell("weather", "clear\u200b"), "weather"),
    "trailing space": (_cell("weather", "clear "), "weather"),
    "trailing line": (_cell("month", "2026-09\n"), "month"),
    "case as a channel": (_cell("timeofday", "Daytime"), "timeofday"),
    "day in month": (_cell("month", "2026-09-02"), "month"),
    "time in month": (_cell("month", "2026-09-02T08:07:13"), "month"),
    "thirteenth month": (_cell("month", "2026-13"), "month"),
    "Arabic digits": (_cell("month", "٢٠٢٦-09"), "month"),
    "Taiwan": (_cell("province", "CN-TW"), "province"),
    "prefecture": (_cell("province", "CN-SH-01"), "province"),
    "exact resolution": (_cell("resolution_class", "1280x720"), "resolution_class"),
    "exact rate": (_cell("fps_class", "29.97"), "fps_class"),
    "sixth band": (_cell("noise", "6 extreme"), "noise"),
    "long duration": (_cell("duration_s", 3601), "duration_s"),
    "size as duration": (_cell("duration_s", 123_456_790), "duration_s"),
    "epoch as duration": (_cell("duration_s", 1_788_336_433), "duration_s"),
    "negative duration": (_cell("duration_s", -1), "duration_s"),
    "null cell": (_cell("scene", None), "scene"),
    "empty cell": (_cell("scene", ""), "scene"),
    "id is a clip's hash": (_cell("release_row_id", CLIP_ID), "release_row_id"),
    "id begins a clip's hash": (_cell("release_row_id", CLIP_ID[:32]), "clip_id"),
    "id ends a clip's hash": (_cell("release_row_id", CLIP_ID[32:]), "clip_id"),
    "id cuts a clip's hash": (_cell("release_row_id", CLIP_ID[13:45]), "clip_id"),
    "id is a vehicle": (_cell("release_row_id", "fleet-0001"), "release_row_id"),
    "id in upper case": (_cell("release_row_id", "9F86D081884C7D659A2FEAA0C55AD015"), "release_row_id"),
    "id twice": (_ids("9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"), "twice"),
    "ids are counters": (_ids(f"{1:032x}", f"{2:032x}"), "not drawn at random"),
    "ids carry a machine": (_ids(_uuid1(), _uuid1()), "not drawn at random"),
    "ids carry a clock": (_ids("0198f2a1" + "7c7d659a2feaa0c55ad01512", "0198f2a1" + "f2b0b822cd15d6c15b0f00a8"), "not drawn at random"),
    "id of few signs": (_ids("00000000000000000000000000000001", "a3bf4f1b2b0b822cd15d6c15b0f00a08"), "too few different signs"),
    "table metadata": (_noted({b"source": b"31.245932"}), "table metadata"),
    "table metadata altered": (_noted({b"curation.table": b"fleet-0001"}), "table metadata"),
    "pandas metadata": (_noted({b"pandas": b"{}"}), "table metadata"),
    "field metadata": (_field_noted("scene", b"vin", b"x"), "column scene carries metadata"),
    "field doc altered": (_field_noted("scene", b"doc", b"seen at 31.2459"), "column scene carries metadata"),
    "field id as a channel": (_field_noted("scene", b"PARQUET:field_id", b"31.2459"), "column scene carries metadata"),
}  # fmt: skip


def test_whole_release_passes(release: pa.Table, home: pa.Table) -> None:
    """What the rules let out passes, as a table and as a file; so does an empty release."""
    gate.check_table(release, home)
    gate.check_table(RELEASE.empty_table(), home)
    gate.check_file(to_parquet(release, RELEASE), NAME, home)


@pytest.mark.parametrize("name", MUTATIONS)
def test_leak_into_a_table_is_refused(name: str, release: pa.Table, home: pa.Table) -> None:
    """Each mutation of the table about to leave is refused, and named."""
    change, named = MUTATIONS[name]
    with pytest.raises(GateRefused) as refusal:
        gate.check_table(change(release), home)
    assert named in str(refusal.value)


@pytest.mark.parametrize("name", MUTATIONS)
def test_leak_into_a_file_is_refused(name: str, release: pa.Table, home: pa.Table) -> None:
    """The same mutations are refused in a written file, whoever wrote it."""
    sink = io.BytesIO()
    pq.write_table(MUTATIONS[name][0](release), sink)
    with pytest.raises(GateRefused) as refusal:
        gate.check_file(sink.getvalue(), NAME, home)
    assert MUTATIONS[name][1] in str(refusal.value) or "metadata" in str(refusal.value)


def test_refusal_names_no_value(release: pa.Table, home: pa.Table) -> None:
    """The refusal says which home column was found where, never the value."""
    with pytest.raises(GateRefused) as refusal:
        gate.check_table(_cell("weather", "LRWMUZFYEAML00001")(release), home)
    assert "LRWM" not in str(refusal.value)


@pytest.mark.parametrize("key", ["gps", "31.245932", "pandas", "iceberg.schema", "curation.table"])
def test_key_value_metadata_is_closed(key: str, release: pa.Table, home: pa.Table) -> None:
    """A written file may carry no key of its own, not even a plausible one."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, RELEASE.remove_metadata()) as writer:
        writer.write_table(release.replace_schema_metadata(None))
        writer.add_key_value_metadata({key: "LRWMUZFYEAML00001"})
    with pytest.raises(GateRefused, match="metadata"):
        gate.check_file(sink.getvalue(), NAME, home)


def test_unused_dictionary_words_are_found(release: pa.Table, home: pa.Table) -> None:
    """A word that stands only in a dictionary page, used by no row, is still on its way out."""
    words = pa.array(["highway", "LRWMUZFYEAML00001"])
    smuggled = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), words)
    sink = io.BytesIO()
    table = release.set_column(release.column_names.index("scene"), "scene", smuggled)
    pq.write_table(table, sink, store_schema=False)
    with pytest.raises(GateRefused, match="scene"):
        gate.check_file(sink.getvalue(), NAME, home)


@pytest.mark.parametrize(
    "hidden",
    [
        b"LRWMUZFYEAML00002", b"lrwmuzfyeaml00002", b"fleet-0001", "浙AK1D0001".encode(), b"clip_1.mp4 of file:///dashcam/clip_1.mp4",
        CLIP_ID.encode(), b"31.245932", b"31.2459", b"121.4732", b"30.9876", b"2026-09-02T08:07", b"2026-09-02 16:07:13", b"13.8912",
        pa.array([31.245932]).buffers()[1].to_pybytes()[:8], b"10000lmaeyfzumwrl".upper(),
    ],
)  # fmt: skip
def test_raw_value_in_a_files_bytes_is_found(hidden: bytes, release: pa.Table, home: pa.Table) -> None:
    """A raw value between the pages of a file is found, in the shapes that values are written in."""
    data = to_parquet(release, RELEASE)
    smuggled = data[:4] + hidden + data[4:]
    with pytest.raises(GateRefused):
        gate.check_raw_bytes(smuggled, "00000.avro", home)


def test_tail_of_a_file_is_searched(home: pa.Table) -> None:
    """The last bytes and the seams between search windows are searched like the first."""
    for padding in (0, 3, (1 << 22) - 9, (1 << 22) - 1):
        with pytest.raises(GateRefused, match="vin"):
            gate.check_raw_bytes(b"\0" * padding + b"LRWMUZFYEAML00002", "a.avro", home)


@pytest.mark.parametrize(
    "name", ["31.2459_121.4732.parquet", "fleet-0001.parquet", "../x.parquet", "2026-09-02.parquet", f"{CLIP_ID}.parquet", NAME + "\n", "a"]
)
def test_file_name_says_nothing(name: str, release: pa.Table, home: pa.Table) -> None:
    """A data file has a catalog's name or none that passes."""
    with pytest.raises(GateRefused, match="file name"):
        gate.check_file(to_parquet(release, RELEASE), name, home)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no parquet at all"])
def test_broken_file_is_refused(data: bytes, home: pa.Table) -> None:
    """What cannot be read cannot pass."""
    with pytest.raises(GateRefused):
        gate.check_file(data, NAME, home)


def test_gate_without_home_rows_is_refused(release: pa.Table, home: pa.Table) -> None:
    """A gate that is given another table than the clips has nothing to search for, and says no."""
    retyped = home.set_column(home.column_names.index("vin"), "vin", home.column("vin").cast(pa.large_string()))
    for other in (home.drop_columns(["vin"]), retyped):
        with pytest.raises(GateRefused, match="home table"):
            gate.check_table(release, other)


def test_gate_spells_the_words_of_the_generalisations(demo_pack: Pack) -> None:
    """Gate and generalisations are written apart and must agree."""
    built_in = {rule.name: GENERALISATIONS[rule.generalisation].vocabulary for rule in demo_pack.outputs}
    assert all(re.match(gate.SHAPES["month"], month) for month in built_in.pop("month") or ())
    assert {name: words for name, words in built_in.items() if words is not None} == dict(gate.VOCABULARY)
    assert MAX_DURATION_S == gate.MAX_DURATION_S

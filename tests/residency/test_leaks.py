"""The leak suite: every way out that we could think of, tried on the layer that must refuse it, which must name what it refused.

A case is a name, the layer, what reaches that layer, and what the refusal must name. The layers, in the order in which a leak meets them:
the schema, the loader of packs, their expressions, their signatures, the evaluator (a whole table, or a row), the gate over the table
about to leave, and the gate over the file that was written, its name and its bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import CurationError, GateRefused, PackRefused, SettingsError
from curation.residency import evaluate, gate, signing
from curation.residency import pack as packs
from curation.residency.expression import compile_expression
from curation.schema import CLIPS, RELEASE, sensitivity_of

Row = dict[str, Any]
NAME = "00000-0-f7c3abb6-1468-4b43-981b-d9e3b1de864f.parquet"
VIN, PLATE, GPS, VEHICLE = "LRWMUZFYEAML00001", "浙AK1D0001", "31.245932,121.473167", "fleet-0001"
CLIP_ID = hashlib.sha256(b"clip 1").hexdigest()
IDS = ("9f86d081884c7d659a2feaa0c55ad015", "a3bf4f1b2b0b822cd15d6c15b0f00a08")


@dataclass(frozen=True)
class World:
    """What is mutated: a pack's text, its signatures and who is trusted, clips at home, a release of them, fences."""

    text: str
    pack: packs.Pack
    signatures: tuple[signing.Signature, ...]
    strangers: tuple[signing.Signature, ...]
    trusted: dict[str, list[str]]
    home: pa.Table
    release: pa.Table
    fences: bytes
    make_row: Callable[..., Row]


@dataclass(frozen=True)
class Leak:
    """A mutation: the layer that must refuse it, what reaches that layer, and what the refusal must name."""

    layer: str
    made: Callable[[World], Any]
    named: str


def _sign(pack: packs.Pack) -> tuple[tuple[signing.Signature, ...], dict[str, list[str]]]:
    signatures, trusted = [], {}
    for role in signing.ROLES:
        private_pem, public_hex = signing.keygen()
        signatures.append(signing.sign(pack, role, private_pem, signed_at=datetime(2026, 11, 21, tzinfo=UTC)))
        trusted[role] = [public_hex]
    return tuple(signatures), trusted


_WORLDS: list[World] = []


@pytest.fixture
def world(
    pack_bytes: Callable[[str], bytes], clip_row: Callable[..., Row], clips: Callable[..., pa.Table], release: pa.Table, fences: bytes
) -> World:
    """The unmutated world, made once: everything in it is frozen."""
    if not _WORLDS:
        text = pack_bytes("cn-demo").decode()
        pack = packs.parse(text.encode())
        signatures, trusted = _sign(pack)
        track = [{"offset_s": 0.5, "latitude_deg": 30.987654, "longitude_deg": 120.123456}]
        home = clips(clip_row(1, track=track), clip_row(2))
        _WORLDS.append(World(text, pack, signatures, _sign(pack)[0], trusted, home, release, fences, clip_row))
    return _WORLDS[0]


# --- the schema: a column that does not say how sensitive it is stops loading


def _column(sensitivity: str | None, name: str = "lidar_hint") -> Leak:
    metadata = {"doc": "new"} if sensitivity is None else {"doc": "new", "sensitivity": sensitivity}
    return Leak("schema", lambda _: pa.field(name, pa.string(), metadata=metadata), name)


SCHEMA = {
    "new column without a sensitivity": _column(None),
    "new column of an unknown sensitivity": _column("harmless"),
    "new column of no sensitivity": _column(""),
    "sensitivity in upper case": _column("Public"),
    "sensitivity with a Cyrillic r": _column("рublic"),  # noqa: RUF001 - on purpose
    "sensitivity with a zero-width space": _column("public\u200b"),
    "two sensitivities": _column("public,place"),
}

# --- the loader: packs that would let out more


def _text(old: str, new: str, named: str) -> Leak:
    def made(world: World) -> bytes:
        assert old in world.text
        return world.text.replace(old, new, 1).encode()

    return Leak("loader", made, named)


def _reads(output: str, old: str, new: str) -> Leak:
    """An output whose generalisation is fed with another column; the refusal must name the first one that does not fit."""
    first = next(name.strip() for name in new.split(",") if name.strip() not in old)
    return _text(f"name: {output}\n    generalisation: {GENERALISED[output]}\n    inputs: [{old}]",
                 f"name: {output}\n    generalisation: {GENERALISED[output]}\n    inputs: [{new}]", first)  # fmt: skip


GENERALISED = {
    "province": "province_code", "month": "month_in_shanghai", "resolution_class": "resolution_class", "video_codec": "video_codec",
    "fps_class": "fps_class", "duration_s": "whole_seconds", "sharpness": "sharpness_band", "brightness": "ratio_band",
    "contrast": "ratio_band", "noise": "noise_band", "timeofday": "timeofday", "weather": "weather", "scene": "scene",
}  # fmt: skip
WRONG_INPUTS = [
    ("scene", "scene", "plate"), ("scene", "scene", "driver_id"), ("scene", "scene", "vin"), ("scene", "scene", "source_uri"),
    ("weather", "weather", "device_id"), ("weather", "weather", "province"), ("timeofday", "timeofday", "ego_motion"),
    ("timeofday", "timeofday", "error"), ("video_codec", "video_codec", "object_uri"), ("video_codec", "video_codec", "clip_id"),
    ("video_codec", "video_codec", "packet_digest"), ("month", "captured_at", "inspected_at"), ("month", "captured_at", "vin"),
    ("province", "province", "plate"), ("province", "province", "camera"), ("province", "province", "latitude_deg"),
    ("sharpness", "sharpness", "latitude_deg"), ("brightness", "brightness", "longitude_deg"), ("contrast", "contrast", "gnss_error_m"),
    ("noise", "noise_sigma", "motion_px"), ("fps_class", "fps", "speed_max_mps"), ("fps_class", "fps", "sun_elevation_deg"),
    ("duration_s", "duration_s", "speed_mean_mps"), ("duration_s", "duration_s", "size_bytes"), ("duration_s", "duration_s", "track"),
    ("resolution_class", "width_px, height_px", "width_px, frame_count"), ("sharpness", "sharpness", "timeofday_confidence"),
    ("brightness", "brightness", "reasons"), ("contrast", "contrast", "unmeasured"), ("scene", "scene", "release_row_id"),
]  # fmt: skip
NO_GENERALISATIONS = ["as_is", "identity", "", "sha256", "hmac_vin", "geohash5", "round_2", "scene || vin", "{0}", "Scene", "sсene"]  # noqa: RUF001

LOADER = {
    **{f"{output} is made of {new}": _reads(output, old, new) for output, old, new in WRONG_INPUTS},
    **{
        f"generalisation {name!r}": _text("generalisation: scene", f"generalisation: '{name}'", "generalisation")
        for name in NO_GENERALISATIONS
    },
    **{
        f"{sensitivity} is not withheld": _text(f"sensitivities: [{sensitivity}]", f"columns: [{kept}]", left)
        for sensitivity, kept, left in [
            ("place", "latitude_deg", "longitude_deg"), ("person", "captured_at", "driver_id"), ("vehicle", "vin", "plate"),
            ("device", "captured_at", "device_id"), ("picture", "motion_px", "packet_digest"), ("internal", "clip_id", "object_uri"),
            ("public", "fps", "container"),
        ]
    },
    "output city": _text("name: scene\n", "name: city\n", "city"),
    "output vin": _text("name: weather\n", "name: vin\n", "vin"),
    "output named in full width": _text("name: scene\n", "name: ｓcene\n", "not exactly"),  # noqa: RUF001 - on purpose
    "output stands twice": _text("name: weather\n", "name: scene\n", "not exactly"),
    "output expression": _text("generalisation: scene\n", "generalisation: scene\n    expression: plate\n", "expression"),
    "output sql": _text("generalisation: scene\n", "generalisation: scene\n    sql: 'select vin'\n", "sql"),
    "output without generalisation": _text("    generalisation: scene\n", "", "generalisation"),
    "two inputs where one is read": _text("inputs: [scene]", "inputs: [scene, plate]", "takes 1 inputs"),
    "no input": _text("inputs: [scene]", "inputs: []", "inputs"),
    "input named twice over": _text("inputs: [width_px, height_px]", "inputs: [width_px]", "takes 2 inputs"),
    "input of a struct's field": _text("inputs: [scene]", "inputs: [track.latitude_deg]", "track.latitude_deg"),
    "allow key": _text("demo: true", "demo: true\nallow: [vin]", "allow"),
    "key twice": _text("demo: true", "demo: true\ndemo: true", "stands twice"),
    "alias": _text("withhold:", "kept: &kept [vin]\nlost: *kept\nwithhold:", "alias"),
    "merge key": _text("demo: true", "<<: {demo: true}", "no plain word"),
    "object": _text("demo: true", "demo: !!python/object/apply:os.getcwd []", "YAML"),
    "two documents": _text("demo: true", "demo: true\n---\ndemo: true", "YAML"),
    "demo as text": _text("demo: true", "demo: 'yes'", "demo"),
    "never expires": _text("valid_to: 2027-12-31", "valid_to: null", "valid_to"),
    "expires after it began, backwards": _text("valid_to: 2027-12-31", "valid_to: 2024-12-31", "valid_to"),
    "k of nothing": _text("min_vehicles: 2", "min_vehicles: 0", "min_vehicles"),
    "k below nothing": _text("min_vehicles: 2", "min_vehicles: -1", "min_vehicles"),
    "k as truth": _text("min_vehicles: 2", "min_vehicles: true", "min_vehicles"),
    "k as a float": _text("min_vehicles: 2", "min_vehicles: 0.5", "min_vehicles"),
    "days of nothing": _text("min_days: 1", "min_days: 0", "min_days"),
    "no quasi-identifier": _text("quasi_identifiers: [province, month]", "quasi_identifiers: []", "quasi_identifiers"),
    "quasi-identifier twice": _text("[province, month]\n", "[province, province]\n", "stands twice"),
    "quasi-identifier that is no output": _text("[province, month]\n", "[province, city]\n", "city"),
    "row id as quasi-identifier": _text("[province, month]\n", "[release_row_id]\n", "release_row_id"),
    "rejected clips leave": _text("verdict = 'accepted'", "verdict <> 'quarantined'", "row.accepted"),
    "any verdict leaves": _text("verdict = 'accepted'", "verdict = 'accepted' or verdict is not null", "row.accepted"),
    "unknown vehicles leave": _text("vehicle_id <> ''", "vehicle_id <> 'x'", "row.vehicle_known"),
    "unknown times leave": _text("captured_at is not null", "captured_at is null or captured_at is not null", "row.captured_at_known"),
    "rule under another id": _text("id: row.accepted", "id: row.accepted2", "row.accepted"),
    "rule under the evaluator's id": _text("id: row.accepted", "id: pack.refused", "id"),
    "rule reads a track": _text("inputs: [verdict]", "inputs: [verdict, track]", "track"),
    "buffer of a metre": _text("other_buffer_m: 500", "other_buffer_m: 1", "other_buffer_m"),
    "buffer below nothing": _text("other_buffer_m: 500", "other_buffer_m: -500", "other_buffer_m"),
    "buffer that is no number": _text("other_buffer_m: 500", "other_buffer_m: .nan", "other_buffer_m"),
    "any error of a fix": _text("max_gnss_error: smallest buffer", "max_gnss_error: any", "max_gnss_error"),
    "no geofence": _text("\ngeofence:", "\nno_fence:", "geofence"),
    "withheld by a look-alike name": _text("sensitivities: [device]", "columns: [d\u0435vice_id]", "d\u0435vice_id"),
    "withhold of an unknown class": _text("sensitivities: [device]", "sensitivities: [gadget]", "sensitivities"),
    "source that the pack does not list": _text("source: GUIDE-2026", "source: TRUST-ME", "TRUST-ME"),
}  # fmt: skip

# --- expressions: what a row rule may not say


def _expression(text: str, named: str) -> Leak:
    return Leak("expression", lambda _: text, named)


EXPRESSIONS = {
    "case over a place": _expression("case when latitude_deg > 31 then scene = 'tunnel' else scene = 'highway' end", "CASE"),
    "if over a place": _expression("if(latitude_deg > 31, true, false)", "calls if"),
    "bits of a plate": _expression("ascii(plate) = 27993", "ascii"),
    "substring of a VIN": _expression("substring(vin, 1, 3) = 'LRW'", "substring"),
    "pattern over a plate": _expression("plate like '浙A%'", "~~"),
    "regular expression over a VIN": _expression("regexp_matches(vin, 'LRW.*')", "regexp_matches"),
    "undeclared column": _expression("driver_id = 'drv-1'", "driver_id"),
    "column of another table": _expression("published.vehicle_id = 'x'", "published.vehicle_id"),
    "subquery": _expression("(select max(vin) from candidates) = 'x'", "SUBQUERY"),
    "subquery in a list": _expression("vin in (select vin from candidates)", "SUBQUERY"),
    "file": _expression("read_text('/etc/passwd') = ''", "read_text"),
    "environment": _expression("getenv('HOME') = ''", "getenv"),
    "setting": _expression("current_setting('threads') = 2", "current_setting"),
    "chance": _expression("random() < 0.5", "random"),
    "clock": _expression("now() > captured_at", "now"),
    "hash of a plate": _expression("md5(plate) = 'x'", "md5"),
    "hash to a number": _expression("hash(vin) = 1", "hash"),
    "concatenation": _expression("concat(vin, plate) = 'x'", "concat"),
    "operator concatenation": _expression("vin || plate = 'x'", "||"),
    "cast": _expression("cast(latitude_deg as varchar) = '31'", "CAST"),
    "arithmetic": _expression("latitude_deg * 10 = 310", "*"),
    "window": _expression("row_number() over () = 1", "WINDOW"),
    "aggregate": _expression("count(vin) = 1", "count"),
    "null-safe comparison": _expression("vin is distinct from 'x'", "DISTINCT"),
    "lambda": _expression("list_filter([vin], lambda x: x = 'x') = []", "list_filter"),
    "struct": _expression("{'a': vin} = {'a': 'x'}", "struct_pack"),
    "parameter": _expression("vin = $1", "PARAMETER"),
    "star": _expression("* is null", "STAR"),
    "second statement": _expression("true; copy candidates to 'x'", "not readable"),
    "clause of its own": _expression("true) from declared where (true", "not readable"),
    "other table": _expression("true) from candidates --", "clauses"),
    "union": _expression("true) from declared union select (true", "more than one"),
    "named result": _expression("true as leaked", "not readable"),
    "infinite number": _expression("latitude_deg < 1e999", "1e999"),
    "longer than any rule": _expression("vin = 'x' or " * 300 + "true", "characters"),
}

# --- signatures: who must have signed what


def _asked(**changes: Any) -> Callable[[World], Row]:
    """What `may_allow` is asked; each change is a value, or a function of the world."""

    def made(world: World) -> Row:
        asked: Row = {
            "pack": world.pack,
            "signatures": world.signatures,
            "trusted": world.trusted,
            "today": date(2026, 11, 21),
            "demo": True,
        }
        return asked | {name: change(world) if callable(change) else change for name, change in changes.items()}

    return made


def _signed(named: str, **changes: Any) -> Leak:
    return Leak("signatures", _asked(**changes), named)


def _only(*positions: int) -> Callable[[World], tuple[signing.Signature, ...]]:
    return lambda world: tuple(world.signatures[position] for position in positions)


def _altered(position: int, **changes: Any) -> Callable[[World], tuple[signing.Signature, ...]]:
    def made(world: World) -> tuple[signing.Signature, ...]:
        signatures = list(world.signatures)
        signatures[position] = signatures[position].model_copy(update=changes)
        return tuple(signatures)

    return made


def _other_pack(**changes: Any) -> Callable[[World], packs.Pack]:
    return lambda world: world.pack.model_copy(update=changes)


SIGNATURES = {
    "unsigned": _signed("is unsigned", signatures=()),
    "signed by data security alone": _signed("role legal", signatures=_only(0)),
    "signed by legal alone": _signed("role data-security", signatures=_only(1)),
    "signed by the map partner alone": _signed("role data-security", signatures=_only(2)),
    "map partner missing": _signed("role map-partner", signatures=_only(0, 1)),
    "legal missing": _signed("role legal", signatures=_only(0, 2)),
    "data security missing": _signed("role data-security", signatures=_only(1, 2)),
    "one role signs thrice": _signed("role legal", signatures=_only(0, 0, 0)),
    "signed by strangers": _signed("not trusted", signatures=lambda world: world.strangers),
    "one stranger": _signed(
        "role map-partner by a key that is not trusted", signatures=lambda world: (*world.signatures[:2], world.strangers[2])),
    "nobody is trusted": _signed("not trusted", trusted={}),
    "keys of the wrong roles": _signed(
        "not trusted",
        trusted=lambda world: dict(zip(world.trusted, [*reversed(world.trusted.values())], strict=True))),
    "trusted for one role only": _signed("role legal by a key", trusted=lambda world: {"data-security": world.trusted["data-security"]}),
    "signature moved to another role": _signed(
        "does not fit", signatures=lambda world: (world.signatures[0], world.signatures[0].model_copy(update={"role": "legal"})),
        trusted=lambda world: dict.fromkeys(signing.ROLES, world.trusted["data-security"])),
    "signature dated anew": _signed("does not fit", signatures=_altered(1, signed_at="2027-01-01T00:00:00+00:00")),
    "signature of zeros": _signed("does not fit", signatures=_altered(2, signature="00" * 64)),
    "key that is no point": _signed("role legal", signatures=_altered(1, public_key="ff" * 32),
                                  trusted=lambda world: world.trusted | {"legal": ["ff" * 32]}),
    "k lowered after signing": _signed("does not fit", pack=lambda world: world.pack.model_copy(
        update={"combination": world.pack.combination.model_copy(update={"min_vehicles": 1})})),
    "last day moved after signing": _signed("does not fit", pack=_other_pack(valid_to=date(2030, 1, 1))),
    "demo flag taken out after signing": _signed("does not fit", pack=_other_pack(demo=False)),
    "a rule taken out after signing": _signed(
        "does not fit", pack=lambda world: world.pack.model_copy(update={"row_rules": world.pack.row_rules[:-1]})),
    "version renamed after signing": _signed("does not fit", pack=_other_pack(version="2")),
    "demo pack in earnest": _signed("is a demo pack", demo=False),
    "pack of another schema": _signed("schema version", pack=_other_pack(schema_version="0")),
    "expired yesterday": _signed("expired", today=date(2028, 1, 1)),
    "expired long ago": _signed("expired", today=date(9999, 12, 31)),
    "not yet valid": _signed("is not valid before", today=date(2025, 12, 31)),
    "long before its time": _signed("is not valid before", today=date(1970, 1, 1)),
}  # fmt: skip
SIGNATURE_FILES = {
    "signatures cut short": (b'[{"role": "legal"}]', "public_key"),
    "signature of an unknown role": (b'[{"role": "boss"}]', "role"),
    "signatures that are no list": (b"{}", "(top)"),
    "no JSON at all": (b"signed, trust me", "(top)"),
    "signature key in upper case": (json.dumps([{"role": "legal", "public_key": "AB" * 32}]).encode(), "public_key"),
}

# --- the evaluator: tables that are no candidates


def _more(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.append_column(name, pa.array(values) if isinstance(values, list) else values)


def _set(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), pa.field(name, kind), pa.nulls(table.num_rows, kind))


def _named_anew(old: str, new: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.rename_columns([new if name == old else name for name in table.column_names])


def _candidates(change: Callable[[pa.Table], pa.Table], named: str) -> Leak:
    return Leak("candidates", lambda world: change(world.home), named)


CANDIDATES = {
    "GPS in a new text column": _candidates(_more("note", [GPS] * 2), "note"),
    "embedding": _candidates(_more("embedding", [[0.1, 0.2]] * 2), "embedding"),
    "embedding of fixed length": _candidates(_more("vector", pa.array([[0.1, 0.2]] * 2, pa.list_(pa.float32(), 2))), "vector"),
    "thumbnail": _candidates(_more("thumbnail", [b"\xff\xd8\xff\xe0"] * 2), "thumbnail"),
    "nested struct": _candidates(_more("extra", [{"at": {"lat": 31.2}}] * 2), "extra"),
    "map": _candidates(_more("attributes", pa.array([[("vin", VIN)]] * 2, pa.map_(pa.string(), pa.string()))), "attributes"),
    "null column": _candidates(_more("later", [None] * 2), "later"),
    "column of a release": _candidates(_more("release_row_id", list(IDS)), "release_row_id"),
    "decision of its own": _candidates(_more("released", [True] * 2), "released"),
    "canary's group": _candidates(_more("bird", [0, 0]), "bird"),
    "position": _candidates(_more("position", [0, 1]), "position"),
    "column twice": _candidates(lambda table: table.append_column("scene", table.column("plate")), "stand twice"),
    "column gone": _candidates(lambda table: table.drop_columns(["gnss_error_m"]), "gnss_error_m"),
    "columns swapped by name": _candidates(
        lambda table: _named_anew("?", "vin")(_named_anew("vin", "scene")(_named_anew("scene", "?")(table))), "order"),
    "column in upper case": _candidates(_named_anew("vin", "VIN"), "VIN"),
    "column with a Cyrillic e": _candidates(_named_anew("scene", "sc\u0435ne"), "sc\u0435ne"),
    "column with a zero-width joiner": _candidates(_named_anew("weather", "weather\u200d"), "weather"),
    "column with a trailing space": _candidates(_named_anew("datum", "datum "), "datum "),
    "latitude as text": _candidates(_set("latitude_deg", pa.string()), "latitude_deg"),
    "latitude as half floats": _candidates(_set("latitude_deg", pa.float16()), "latitude_deg"),
    "error as a decimal": _candidates(_set("gnss_error_m", pa.decimal128(9, 3)), "gnss_error_m"),
    "time without a zone": _candidates(_set("captured_at", pa.timestamp("us")), "captured_at"),
    "time of another zone": _candidates(_set("captured_at", pa.timestamp("us", tz="Asia/Shanghai")), "captured_at"),
    "time in nanoseconds": _candidates(_set("captured_at", pa.timestamp("ns", tz="UTC")), "captured_at"),
    "verdict as truth": _candidates(_set("verdict", pa.bool_()), "verdict"),
    "scene as a struct": _candidates(_set("scene", pa.struct([("name", pa.string())])), "scene"),
    "weather as a list": _candidates(_set("weather", pa.list_(pa.string())), "weather"),
    "scene as bytes": _candidates(_set("scene", pa.binary()), "scene"),
    "scene as a dictionary": _candidates(_set("scene", pa.dictionary(pa.int32(), pa.string())), "scene"),
    "track with times of day": _candidates(_set("track", pa.list_(pa.struct([("at", pa.timestamp("us"))]))), "track"),
    "clip without an id": _candidates(_set("clip_id", pa.string()), "clip_id"),
}  # fmt: skip

# --- the evaluator: rows with something else in a cell


def _cell(name: str, value: Any, rule: str | None = None) -> Leak:
    output = {"captured_at": "month", "width_px": "resolution_class", "noise_sigma": "noise", "fps": "fps_class"}.get(name, name)
    return Leak("row", lambda world: world.make_row(3, **{name: value}), rule or f"output.{output}")


ROWS = {
    "GPS in a tag": _cell("scene", GPS),
    "degrees in a tag": _cell("weather", "31°14'45\"N 121°28'23\"E"),
    "geohash as a province": _cell("province", "wtw3sjq6q"),
    "open location code in a tag": _cell("scene", "8Q336FWF+9H"),
    "VIN in a tag": _cell("weather", VIN),
    "VIN in lower case": _cell("scene", VIN.lower()),
    "VIN backwards": _cell("scene", VIN[::-1]),
    "VIN in base64": _cell("scene", base64.b64encode(VIN.encode()).decode()),
    "VIN in hex": _cell("scene", VIN.encode().hex()),
    "plate as a weather": _cell("weather", PLATE),
    "plate from the picture": _cell("timeofday", f"OCR: {PLATE}"),
    "plate spaced out": _cell("scene", " ".join(PLATE)),
    "face in a tag": _cell("scene", "face 0.98 at 120,340"),
    "URL": _cell("scene", "https://home.example/clips/aa/1.mp4"),
    "data URL": _cell("scene", "data:image/jpeg;base64,/9j/4AAQ"),
    "object key": _cell("weather", "clips/aa/1.mp4"),
    "path": _cell("weather", "/srv/dashcam/clip_1.mp4"),
    "email": _cell("timeofday", "driver@fleet.example"),
    "telephone": _cell("timeofday", "+86 138 0013 8000"),
    "device's address": _cell("scene", "00:1a:2b:3c:4d:5e"),
    "JSON": _cell("scene", '{"lat": 31.2459}'),
    "SQL": _cell("scene", "highway'; select vin --"),
    "embedding as text": _cell("scene", "[0.0123, -0.4567, 0.8910]"),
    "thumbnail as text": _cell("weather", "/9j/4AAQSkZJRgABAQAAAQABAAD"),
    "Cyrillic look-alike": _cell("scene", "hіghway"),  # noqa: RUF001
    "Greek look-alike": _cell("weather", "cle\u03b1r"),
    "full-width word": _cell("weather", "ｃlear"),  # noqa: RUF001
    "zero-width space in a word": _cell("scene", "high\u200bway"),
    "word joiner": _cell("weather", "clear\u2060"),
    "right-to-left mark": _cell("weather", "\u200fclear"),
    "soft hyphen": _cell("scene", "high\u00adway"),
    "no-break space": _cell("scene", "city\u00a0street"),
    "combining accent": _cell("timeofday", unicodedata.normalize("NFD", "dáytime")),
    "variation selector": _cell("weather", "clear\ufe0f"),
    "tag characters": _cell("weather", "clear" + "".join(chr(0xE0000 + ord(sign)) for sign in "31.24")),
    "trailing NUL": _cell("timeofday", "night\x00"),
    "trailing line": _cell("timeofday", "night\n"),
    "leading tab": _cell("timeofday", "\tnight"),
    "trailing spaces as bits": _cell("scene", "tunnel  "),
    "case as bits": _cell("scene", "tUnnEl"),
    "two words": _cell("scene", "tunnel,highway"),
    "district": _cell("province", "CN-SH-310115"),
    "Taiwan": _cell("province", "CN-TW"),
    "Hong Kong": _cell("province", "CN-HK"),
    "Macao": _cell("province", "CN-MO"),
    "old numeric code": _cell("province", "310000"),
    "city as a province": _cell("province", "上海市浦东新区"),
    "province with a look-alike": _cell("province", "СN-SH"),  # noqa: RUF001
    "time before all cameras": _cell("captured_at", datetime(1970, 1, 1, tzinfo=UTC)),
    "time as a far century": _cell("captured_at", datetime(3124, 5, 9, tzinfo=UTC)),
    "width below nothing": _cell("width_px", -1280),
    "noise that is no number": _cell("noise_sigma", float("nan")),
    "endless rate": _cell("fps", float("inf")),
    "time below nothing": _cell("duration_s", -12.3459),
    "fix in a fence": Leak("row", lambda world: world.make_row(3, latitude_deg=31.15, longitude_deg=121.8), "geofence.inside"),
    "fix of another datum": _cell("datum", "GCJ-02", "geofence.datum"),
    "fix of BD-09": _cell("datum", "BD-09", "geofence.datum"),
    "datum in lower case": _cell("datum", "wgs-84", "geofence.datum"),
    "fix without an error": _cell("gnss_error_m", None, "geofence.gnss_error"),
    "rejected clip": _cell("verdict", "rejected", "row.accepted"),
    "verdict with a space": _cell("verdict", "accepted ", "row.accepted"),
    "clip of no vehicle": _cell("vehicle_id", "", "row.vehicle_known"),
}  # fmt: skip

# --- the gate: the table about to leave


def _leaves(change: Callable[[pa.Table], pa.Table], named: str) -> Leak:
    return Leak("table", lambda world: change(world.release), named)


def _holds(name: str, value: Any) -> Leak:
    def change(table: pa.Table) -> pa.Table:
        field = RELEASE.field(name)
        values = pa.array([value, *table.column(name).to_pylist()[1:]], field.type)
        return table.set_column(table.column_names.index(name), pa.field(name, field.type, metadata=field.metadata), values)

    return _leaves(change, name)


def _typed(name: str, values: pa.Array) -> Leak:
    return _leaves(lambda table: table.set_column(table.column_names.index(name), name, values), name)


def _noted(note: dict[bytes, bytes]) -> Leak:
    return _leaves(lambda table: table.replace_schema_metadata({**table.schema.metadata, **note}), "table metadata")


def _field_noted(name: str, key: bytes, value: bytes) -> Leak:
    def change(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        return table.set_column(table.column_names.index(name), field.with_metadata({**field.metadata, key: value}), table.column(name))

    return _leaves(change, f"column {name} carries metadata")


def _ids(named: str, *values: str) -> Leak:
    return _leaves(lambda table: table.set_column(0, RELEASE.field(0), pa.array(values, pa.string())), named)


TABLES = {
    "new column leaves": _leaves(_more("city", ["Shanghai"] * 2), "'city'"),
    "clip id leaves": _leaves(_more("clip_id", [CLIP_ID] * 2), "'clip_id'"),
    "embedding leaves": _leaves(_more("embedding", [[0.1, 0.2]] * 2), "'embedding'"),
    "thumbnail leaves": _leaves(_more("thumbnail", [b"\xff\xd8\xff"] * 2), "'thumbnail'"),
    "struct leaves": _leaves(_more("extra", [{"at": {"lat": 31.2}}] * 2), "'extra'"),
    "null column leaves": _leaves(_more("note", [None] * 2), "'note'"),
    "reasons leave": _leaves(_more("withheld_by", [["geofence.inside"]] * 2), "'withheld_by'"),
    "column with a look-alike leaves": _leaves(_named_anew("scene", "s\u0441ene"), "s\\u0441ene"),
    "column with a zero-width space leaves": _leaves(_named_anew("scene", "scene\u200b"), "scene\\u200b"),
    "column in upper case leaves": _leaves(_named_anew("scene", "Scene"), "'Scene'"),
    "column twice leaves": _leaves(lambda table: table.append_column("scene", table.column("scene")), "columns"),
    "column is missing": _leaves(lambda table: table.drop_columns(["weather"]), "weather"),
    "columns are swapped": _leaves(lambda table: table.select([*table.column_names[:-2], "scene", "weather"]), "order"),
    "struct for a word": _typed("scene", pa.array([{"a": "highway"}] * 2)),
    "list for a word": _typed("scene", pa.array([["highway"]] * 2)),
    "dictionary for a word": _typed("scene", pa.array(["highway"] * 2).dictionary_encode()),
    "bytes for a word": _typed("scene", pa.array([b"highway"] * 2)),
    "fractions of a second": _typed("duration_s", pa.array([12.345, 12.345])),
    "decimal seconds": _typed("duration_s", pa.array([Decimal("12.345")] * 2)),
    "month as a time": _typed("month", pa.array([datetime(2026, 9, 1, tzinfo=UTC)] * 2)),
    "month as a date": _typed("month", pa.array([date(2026, 9, 2)] * 2)),
    "GPS in a scene": _holds("scene", GPS),
    "GPS for a province": _holds("province", "31.2459,121.4731"),
    "geohash for a province": _holds("province", "wtw3sjq6q"),
    "VIN for a weather": _holds("weather", VIN),
    "plate for a time of day": _holds("timeofday", PLATE),
    "address for a codec": _holds("video_codec", "https://home.example/clips/aa"),
    "handle for a codec": _holds("video_codec", "clips/aa/1.mp4"),
    "raw sharpness": _holds("sharpness", "210.5"),
    "caption": _holds("scene", "white car passes the gate of the ministry"),
    "reason code for a scene": _holds("scene", "geofence.inside"),
    "look-alike word leaves": _holds("scene", "hіghway"),  # noqa: RUF001
    "full-width word leaves": _holds("weather", "ｃｌｅａｒ"),  # noqa: RUF001
    "zero-width word leaves": _holds("weather", "clear\u200b"),
    "trailing space leaves": _holds("weather", "clear "),
    "line after a month": _holds("month", "2026-09\n"),
    "case as a channel": _holds("timeofday", "Daytime"),
    "day for a month": _holds("month", "2026-09-02"),
    "week for a month": _holds("month", "2026-W36"),
    "quarter of an hour": _holds("month", "2026-09-02T08:15"),
    "second for a month": _holds("month", "2026-09-02T08:07:13"),
    "thirteenth month": _holds("month", "2026-13"),
    "month of no month": _holds("month", "2026-00"),
    "Arabic digits": _holds("month", "٢٠٢٦-09"),
    "full-width digits": _holds("month", "２０２６-09"),  # noqa: RUF001
    "Taiwan leaves": _holds("province", "CN-TW"),
    "prefecture": _holds("province", "CN-SH-01"),
    "exact resolution": _holds("resolution_class", "1280x720"),
    "exact rate": _holds("fps_class", "29.97"),
    "sixth band": _holds("noise", "6 extreme"),
    "band of another language": _holds("contrast", "4 高"),
    "one second too many": _holds("duration_s", 3601),
    "size as a duration": _holds("duration_s", 123_456_790),
    "epoch as a duration": _holds("duration_s", 1_788_336_433),
    "latitude as a duration": _holds("duration_s", 31_245_932),
    "duration below nothing": _holds("duration_s", -1),
    "no value": _holds("scene", None),
    "empty value": _holds("scene", ""),
    "id is a clip's hash": _holds("release_row_id", CLIP_ID),
    "id begins a clip's hash": _ids("clip_id", CLIP_ID[:32], IDS[1]),
    "id ends a clip's hash": _ids("clip_id", CLIP_ID[32:], IDS[1]),
    "id is cut from a clip's hash": _ids("clip_id", CLIP_ID[13:45], IDS[1]),
    "id is a vehicle": _holds("release_row_id", VEHICLE),
    "id in upper case": _holds("release_row_id", IDS[0].upper()),
    "id with hyphens": _holds("release_row_id", str(uuid.UUID(IDS[0]))),
    "id twice": _ids("twice", IDS[0], IDS[0]),
    "ids are counters": _ids("not drawn at random", f"{1:032x}", f"{2:032x}"),
    "ids carry a machine": _ids("not drawn at random", "6ba7b8109dad11d180b4001a2b3c4d5e", "7ba7b8209dad11d180b4001a2b3c4d5e"),
    "ids carry a clock": _ids("not drawn at random", "0198f2a17c7d659a2feaa0c55ad01512", "0198f2a1f2b0b822cd15d6c15b0f00a8"),
    "id of few signs": _ids("too few different signs", "00000000000000000000000000000001", IDS[1]),
    "id is a plate in hex": _ids("column plate", PLATE.encode().hex() + "a07f5c21e9", IDS[1]),
    "id is a vehicle in hex": _ids("column vehicle_id", "c3" + VEHICLE.encode().hex() + "a07f5c21e9", IDS[1]),
    "id is the MD5 of a VIN": _ids("column vin", *sorted([hashlib.md5(VIN.encode()).hexdigest(), IDS[1]])),  # noqa: S324
    "id begins the SHA-256 of a plate": _ids("column plate", *sorted([hashlib.sha256(PLATE.encode()).hexdigest()[:32], IDS[1]])),
    "id begins the SHA-1 of a vehicle": _ids("column vehicle_id", *sorted([hashlib.sha1(VEHICLE.encode()).hexdigest()[:32], IDS[1]])),  # noqa: S324
    "rows in the order of the clips": _leaves(lambda table: table.take([1, 0]), "order"),
    "table metadata": _noted({b"source": b"31.245932"}),
    "table metadata altered": _noted({b"curation.table": VEHICLE.encode()}),
    "pandas metadata": _noted({b"pandas": b"{}"}),
    "field metadata": _field_noted("scene", b"vin", b"x"),
    "field's meaning altered": _field_noted("scene", b"doc", b"seen at 31.2459"),
    "field id as a channel": _field_noted("scene", b"PARQUET:field_id", b"31.2459"),
    "number of a field id as a channel": _field_noted("weather", b"PARQUET:field_id", b"31245932"),
}  # fmt: skip

# --- the gate: the file that was written, its name, and its bytes


def _written(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _file(change: Callable[[World], bytes], named: str) -> Leak:
    return Leak("file", change, named)


def _keyed(key: str, value: str) -> Leak:
    def made(world: World) -> bytes:
        sink = io.BytesIO()
        with pq.ParquetWriter(sink, RELEASE.remove_metadata()) as writer:
            writer.write_table(world.release.replace_schema_metadata(None))
            writer.add_key_value_metadata({key: value})
        return sink.getvalue()

    return _file(made, "metadata")


def _dictionary(name: str, word: str) -> Leak:
    """A word that stands in the dictionary of a column, and in none of its rows."""

    def made(world: World) -> bytes:
        used = world.release.column(name)[0].as_py()
        smuggled = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array([used, word]))
        return _written(world.release.set_column(world.release.column_names.index(name), name, smuggled), store_schema=False)

    return _file(made, name)


def _footer(change: Callable[[bytes], bytes]) -> Callable[[World], bytes]:
    def made(world: World) -> bytes:
        data = _written(world.release)
        begins = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
        footer = change(data[begins:-8])
        return data[:begins] + footer + struct.pack("<I", len(footer)) + b"PAR1"

    return made


def _field_after(delta: int, secret: bytes) -> Callable[[bytes], bytes]:
    """The footer with one more Thrift field behind its last: binary, `delta` ids on."""
    return lambda footer: footer[:-1] + bytes([delta << 4 | 8, len(secret)]) + secret + b"\0"


def _before_footer(secret: bytes) -> Callable[[World], bytes]:
    def made(world: World) -> bytes:
        data = _written(world.release)
        begins = len(data) - 8 - struct.unpack("<I", data[-8:-4])[0]
        return data[:begins] + secret + data[begins:]

    return made


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(range(1, 200))
FILES = {
    "key of its own": _keyed("gps", "x"),
    "value in a key": _keyed("31.245932", "x"),
    "plausible key": _keyed("iceberg.schema", "{}"),
    "VIN under our own key": _keyed("curation.table", VIN),
    "pandas key": _keyed("pandas", "{}"),
    "VIN in a dictionary": _dictionary("scene", VIN),
    "plate in a dictionary": _dictionary("weather", PLATE),
    "thumbnail in a dictionary": _dictionary("timeofday", base64.b64encode(JPEG).decode()),
    "unknown words in a dictionary": _dictionary("province", "CN-TW"),
    "value in a statistic": _file(lambda world: _written(_holds("month", "2026-09-02").made(world)), "column month"),
    "statistic of a tag": _file(lambda world: _written(_holds("weather", "31.2459").made(world)), "statistics of column weather"),
    "statistic of seconds": _file(lambda world: _written(_holds("duration_s", 31_245_932).made(world)), "statistics of column duration_s"),
    "index of pages": _file(lambda world: _written(world.release, write_page_index=True), "an index of column"),
    "bloom filter": _file(
        lambda world: _written(world.release, bloom_filter_options={"scene": {"ndv": 8, "fpp": 0.1}}), "an index of column scene"),
    "sorting columns": _file(lambda world: _written(world.release, sorting_columns=[pq.SortingColumn(3)]), "sorting columns"),
    "picture before the footer": _file(_before_footer(JPEG), "a gap between its pages"),
    "random bytes before the footer": _file(_before_footer(hashlib.sha512(b"model features").digest()), "a gap between its pages"),
    "second file behind the first": _file(lambda world: _written(world.release) * 2, "a gap between its pages"),
    "text behind the file": _file(lambda world: _written(world.release) + JPEG, "no readable Parquet"),
    "field that no reader knows": _file(_footer(_field_after(3, b"picture of a face")), "a field of its footer"),
    "field of a signing key": _file(_footer(_field_after(2, b"seen from the gate")), "a field of its footer"),
    "writer's name": _file(_footer(lambda footer: footer.replace(b"parquet-cpp-arrow", b"seen-by-the-river")), "its writer's name"),
    "root's name": _file(_footer(lambda footer: footer.replace(b"\x06schema", b"\x06church")), "the name of its root"),
    "column with a look-alike in a file": _file(lambda world: _written(_named_anew("scene", "s\u0441ene")(world.release)), "s\\u0441ene"),
    "column more in a file": _file(lambda world: _written(_more("lat_bucket", [31, 31])(world.release)), "'lat_bucket'"),
    "struct in a file": _file(lambda world: _written(_more("extra", [{"vin": VIN}] * 2)(world.release)), "'extra'"),
    "rows in another order in a file": _file(lambda world: _written(world.release.take([1, 0])), "order"),
    "field metadata in a file": _file(lambda world: _written(_field_noted("scene", b"note", b"x").made(world)), "carries metadata"),
    "no Parquet": _file(lambda _: json.dumps({"gps": GPS}).encode(), "no readable Parquet"),
    "nothing": _file(lambda _: b"", "no readable Parquet"),
    "encrypted": _file(lambda world: _written(world.release).replace(b"PAR1", b"PARE"), "no readable Parquet"),
}  # fmt: skip


def _raw(data: bytes, named: str) -> Leak:
    return Leak("bytes", lambda _: b"Obj\x01" + b"\0" * 20 + data + b"\0" * 20, f"column {named}")


CAPTURED = datetime(2026, 9, 2, 8, 7, 13, 37_000, tzinfo=UTC)
BYTES = {
    "VIN in bytes": _raw(VIN.encode(), "vin"),
    "VIN in lower case in bytes": _raw(VIN.lower().encode(), "vin"),
    "VIN backwards in bytes": _raw(VIN[::-1].encode(), "vin"),
    "plate in bytes": _raw(PLATE.encode(), "plate"),
    "vehicle in bytes": _raw(VEHICLE.encode(), "vehicle_id"),
    "device in bytes": _raw(b"DC-64c7a0001", "device_id"),
    "driver in bytes": _raw(b"drv-36070001", "driver_id"),
    "path in bytes": _raw(b"file:///dashcam/clip_1.mp4", "source_uri"),
    "clip id in bytes": _raw(CLIP_ID.encode(), "clip_id"),
    "latitude in bytes": _raw(b"31.245932", "latitude_deg"),
    "latitude of four decimals in bytes": _raw(b"31.2459", "latitude_deg"),
    "longitude rounded in bytes": _raw(b"121.4732", "longitude_deg"),
    "latitude as a double": _raw(struct.pack("<d", 31.245932), "latitude_deg"),
    "place of a track in bytes": _raw(b"30.9876", "track"),
    "speed in bytes": _raw(b"13.8912", "speed_mean_mps"),
    "hour in bytes": _raw(b"2026-09-02T08", "captured_at"),
    "hour in Shanghai in bytes": _raw(b"2026-09-02 16", "captured_at"),
    "second since 1970 in bytes": _raw(str(int(CAPTURED.timestamp())).encode(), "captured_at"),
    "time as an integer": _raw(
        struct.pack("<q", (CAPTURED - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)), "captured_at"),
}  # fmt: skip


def _file_name(name: str, named: str = "file name") -> Leak:
    return Leak("name", lambda _: name, named)


NAMES = {
    "place in a name": _file_name("31.2459_121.4732.parquet"),
    "vehicle in a name": _file_name(f"{VEHICLE}.parquet"),
    "clip id in a name": _file_name(f"{CLIP_ID}.parquet"),
    "day in a name": _file_name("2026-09-02.parquet"),
    "way out of a folder": _file_name("../../etc/x.parquet"),
    "line after a name": _file_name(NAME + "\n"),
    "second suffix": _file_name(NAME.replace(".parquet", ".jpg.parquet")),
    "partition in a name": _file_name(f"vin={VIN}/{NAME}"),
    "plate in hex for a name": _file_name(f"00000-0-{uuid.UUID(hex=PLATE.encode().hex() + 'a07f5c21e9')}.parquet", "column plate"),
    "vehicle in hex for a name": _file_name(
        f"00000-0-{uuid.UUID(hex='c37f' + VEHICLE.encode().hex() + 'a07f5c21')}.parquet", "column vehicle_id"),
}  # fmt: skip

GROUPS = {
    "schema": SCHEMA, "loader": LOADER, "expression": EXPRESSIONS, "signatures": SIGNATURES, "candidates": CANDIDATES, "row": ROWS,
    "table": TABLES, "file": FILES, "bytes": BYTES, "name": NAMES,
}  # fmt: skip
LEAKS = {name: leak for group in GROUPS.values() for name, leak in group.items()}
LEAKS |= {name: Leak("signature file", lambda _, data=data: data, named) for name, (data, named) in SIGNATURE_FILES.items()}


def _decide(world: World, table: pa.Table) -> evaluate.Evaluation:
    return evaluate.decide(table, pack=world.pack, fences=world.fences)


def _may_allow(world: World, asked: Row) -> None:
    del world
    signing.may_allow(
        asked["pack"], asked["signatures"], trusted_keys=asked["trusted"], today=asked["today"], allow_demo_pack=asked["demo"]
    )


REFUSED_BY: dict[str, tuple[type[CurationError], Callable[[World, Any], Any]]] = {
    "schema": (SettingsError, lambda _, field: sensitivity_of(field)),
    "loader": (PackRefused, lambda _, data: packs.parse(data)),
    "expression": (
        PackRefused,
        lambda _, text: compile_expression(text, ("latitude_deg", "vin", "plate", "scene", "captured_at"), subject="rule row.x"),
    ),
    "signatures": (PackRefused, _may_allow),
    "signature file": (PackRefused, lambda _, data: signing.parse_signatures(data)),
    "candidates": (PackRefused, _decide),
    "table": (GateRefused, lambda world, table: gate.check_table(table, world.home)),
    "file": (GateRefused, lambda world, data: gate.check_file(data, NAME, world.home)),
    "bytes": (GateRefused, lambda world, data: gate.check_raw_bytes(data, "00000.avro", world.home)),
    "name": (GateRefused, lambda world, name: gate.check_file(_written(world.release), name, world.home)),
}


def test_unmutated_world_passes(world: World) -> None:
    """Without a mutation every layer lets the release through, so that each refusal below is the mutation's own."""
    assert packs.parse(world.text.encode()) == world.pack
    _may_allow(world, _asked()(world))
    assert 2 == _decide(world, world.home).released_count
    gate.check_table(world.release, world.home)
    gate.check_table(RELEASE.empty_table(), world.home)
    gate.check_file(_written(world.release), NAME, world.home)
    gate.check_raw_bytes(b"Obj\x01" + b"\0" * 40, "00000.avro", world.home)


@pytest.mark.parametrize("name", [name for name, leak in LEAKS.items() if leak.layer != "row"])
def test_leak_is_refused_and_named(name: str, world: World) -> None:
    """The layer refuses the mutation, says what it refused, and quotes no value of a column that stays home."""
    leak = LEAKS[name]
    error, refuse = REFUSED_BY[leak.layer]
    with pytest.raises(error) as refusal:
        refuse(world, leak.made(world))
    assert leak.named in str(refusal.value)
    if leak.layer in {"table", "file", "bytes", "name"}:
        assert not any(secret in str(refusal.value) for secret in (VIN, PLATE, GPS, VEHICLE, CLIP_ID, "31.245"))


def test_every_leaking_row_is_withheld_by_name(world: World) -> None:
    """Rows with something else in a cell stay home, each under the rule that judges its cell; the two good ones leave."""
    leaks = {name: leak for name, leak in LEAKS.items() if leak.layer == "row"}
    rows = [leak.made(world) | {"clip_id": f"{number:064x}"} for number, leak in enumerate(leaks.values())]
    evaluation = _decide(world, pa.concat_tables([world.home, pa.Table.from_pylist(rows, schema=CLIPS)]))
    withheld = {row["clip_id"]: row["withheld_by"] for row in evaluation.decisions.to_pylist()}
    got_through = [name for number, (name, leak) in enumerate(leaks.items()) if leak.named not in withheld[f"{number:064x}"]]
    assert [] == got_through
    assert 2 == evaluation.released_count


def _print(made: Any) -> bytes:
    """Bytes that tell two mutations apart."""
    if isinstance(made, pa.Table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, made.schema) as stream:
            stream.write_table(made)
        return sink.getvalue().to_pybytes()
    if isinstance(made, pa.Field):
        return pa.schema([made]).serialize().to_pybytes()
    return made if isinstance(made, bytes) else repr(made).encode()


def test_there_are_at_least_200_mutations_and_no_two_are_the_same(world: World) -> None:
    """No case hides another's name, and no two bring the same thing to the same layer."""
    assert sum(map(len, GROUPS.values())) + len(SIGNATURE_FILES) == len(LEAKS)
    assert set(Counter(leak.layer for leak in LEAKS.values())) == {*REFUSED_BY, "row"}
    prints = {(leak.layer, hashlib.sha256(_print(leak.made(world))).digest()) for leak in LEAKS.values()}
    assert len(LEAKS) == len(prints)
    assert len(prints) >= 200

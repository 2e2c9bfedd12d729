"""The suites, made from the Arrow schema and a small hand-written part; `expectations/` holds them as data.

`python -m curation.adapters.validator_suites --write` rewrites the files (`make expectations` does).
"""

# ruff: noqa: E501 - a sentence in two languages stands on one line, and Chinese is counted double

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from curation import schema
from curation.adapters.validator_forms import HEX64, SENSITIVE_FORMS, version_of
from curation.privacy.census import COUNTS
from curation.residency import gate

ROW_COUNT_CHECK: Final = "table.row_count"
DRIFT: Final = "history"  # the table that the checks of drift need
_MAX_COUNT: Final = 2**53  # beyond it a number in a DataFrame is no longer exact

Check = dict[str, Any]
_Said = tuple[str, str]  # why a check exists, in English and in Chinese

_IN_SET: Final = "expect_column_values_to_be_in_set"
_NULL: Final = "expect_column_values_to_be_null"
_NOT_NULL: Final = "expect_column_values_to_not_be_null"
_BETWEEN: Final = "expect_column_values_to_be_between"
_MATCH: Final = "expect_column_values_to_match_regex"
_NO_MATCH: Final = "expect_column_values_to_not_match_regex"
_UNIQUE: Final = "expect_column_values_to_be_unique"
_LENGTHS: Final = "expect_column_value_lengths_to_be_between"
_WORDS: Final = "expect_column_values_to_be_words_of"
_CONSERVED: Final = "expect_rows_to_be_conserved"

_VOCABULARIES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "clips": {
        "verdict": schema.VERDICTS,
        "timeofday": schema.TIMEOFDAY,
        "weather": schema.WEATHER,
        "scene": schema.SCENE,
        "ego_motion": schema.EGO_MOTION,
        "datum": schema.DATUMS,
        "province": schema.PROVINCES,
        "inspect_depth": ("packets", "keyframes", "full"),
    },
    "listing": {"kind": schema.ENTRY_KINDS, "datum": schema.DATUMS},
    "release": gate.VOCABULARY,
}
_A_CLIP: Final = (
    HEX64,
    "A clip is named by the SHA-256 of its bytes, so that the same bytes are the same clip.",
    "视频以其字节的 SHA-256 命名,相同字节即同一视频。",
)
_PATTERNS: Final[Mapping[str, Mapping[str, tuple[str, str, str]]]] = {
    "clips": {
        "clip_id": _A_CLIP,
        "batch_id": (
            r"^.+-[0-9a-f]{16}$", "A batch is named by its source and its listing's digest, so that it can be traced.",
            "批次以来源及其清单摘要命名,以便追溯。",
        ),
        "packet_digest": (HEX64, "A digest that is not one finds no re-wrapped copy.", "不合格的摘要找不到重新封装的副本。"),
        "settings_digest": (HEX64, "The settings under which a clip was measured must be found again.", "测量视频时的设置必须能够再次找到。"),
    },
    "decisions": {"clip_id": _A_CLIP},
    "release": {
        "release_row_id": (gate.SHAPES["release_row_id"], "An id that was not drawn as 32 hex digits may have been made of a clip.", "并非随机抽取的 32 位十六进制编号可能源自视频。"),
    },
    "shards": {
        "clip_id": _A_CLIP,
        "shard": (r"^[a-z0-9][a-z0-9_-]*-[0-9]{6}\.(?:tar|mds)$", "A reader finds shards by split and number.", "读取者按划分和序号查找分片。"),
        "suffix": (r"^\.[a-z0-9]{1,8}$", "A reader tells the members of a sample apart by their suffixes.", "读取者以后缀区分样本的各个成员。"),
    },
}  # fmt: skip
_ON_EARTH: Final = ("Outside it lies no place on Earth.", "超出此范围的地点在地球上不存在。")
_ROAD: Final = ("No road vehicle is faster than 540 km/h.", "没有道路车辆的时速超过 540 公里。")
_RANGES: Final[Mapping[str, tuple[float, float, _Said]]] = {
    "latitude_deg": (-90.0, 90.0, _ON_EARTH),
    "longitude_deg": (-180.0, 180.0, _ON_EARTH),
    "gnss_error_m": (0.0, 1e7, ("An error is a distance, and the Earth is no larger.", "误差是距离,不会大于地球。")),
    "speed_mean_mps": (0.0, 150.0, _ROAD),
    "speed_max_mps": (0.0, 150.0, _ROAD),
    "sun_elevation_deg": (-90.0, 90.0, ("Outside it stands nothing in the sky.", "超出此范围即不在天空中。")),
    "width_px": (1, 65535, ("A picture has at least one column, and no codec at hand has more.", "画面至少有一列,且没有编码支持更多。")),
    "height_px": (1, 65535, ("A picture has at least one row, and no codec at hand has more.", "画面至少有一行,且没有编码支持更多。")),
    "fps": (0.0, 1000.0, ("No dashcam takes more pictures a second.", "没有行车记录仪每秒拍摄更多画面。")),
    "noise_sigma": (0.0, 255.0, ("Luma has 8 bits.", "亮度为 8 位。")),
    "noise_floor_sigma": (0.0, 255.0, ("Luma has 8 bits.", "亮度为 8 位。")),
}
_RELEASED_RANGES: Final[Mapping[str, tuple[float, float, _Said]]] = {
    "duration_s": (0, gate.MAX_DURATION_S, ("A longer clip would stand out among the others.", "更长的视频会在其他视频中显得突出。")),
}
_UNRANGED: Final = ("modified_ns",)  # a file's time is whatever its file system says, and nothing rests on it
_MEASURED_IF_ACCEPTED: Final = (
    "container", "video_codec", "width_px", "height_px", "fps", "frame_count", "duration_s", "timeofday", "weather", "scene",
)  # fmt: skip


def _check(name: str, kind: str, said: _Said, *, of: str | None = None, needs: str | None = None, **kwargs: object) -> Check:
    meta = {"check": name, "notes": said[0], "notes_zh": said[1]}
    meta |= {"column": of} if of else {}
    meta |= {"needs": needs} if needs else {}
    return {"type": kind, "kwargs": kwargs, "meta": meta}


def _where(column: str, operator: str, value: str) -> dict[str, object]:
    return {"type": "comparison", "column": {"name": column}, "operator": operator, "parameter": value}


def types_of(table: pa.Schema) -> str:
    """Every column with its Arrow type, in order, as `table.types` compares them."""
    return "; ".join(f"{field.name} {type_text(field.type)}" for field in table)


def type_text(kind: pa.DataType) -> str:
    """The type without the names of what lists and maps are made of, which Parquet and Arrow call otherwise."""
    if pa.types.is_list(kind):
        return f"list<{type_text(kind.value_type)}>"
    if pa.types.is_map(kind):
        return f"map<{type_text(kind.key_type)}, {type_text(kind.item_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{part.name}: {type_text(part.type)}' for part in kind)}>"
    return str(kind)


def suite(table: str, fields: pa.Schema, *, version: str) -> dict[str, Any]:
    """The suite of a table, as data.

    Args:
        table: a key of `SUITES`.
        fields: its columns in that version.
        version: of the schema.
    """
    checks = [*_table_checks(fields, SUITES[table][1]), *_column_checks(table, fields), *SUITES[table][2](fields)]
    return {"name": table, "meta": {"table": table, "schema_version": version}, "expectations": checks}


def _table_checks(fields: pa.Schema, key: str) -> Iterator[Check]:
    yield _check(
        "table.columns", "expect_table_columns_to_match_ordered_list",
        ("A column more, less or elsewhere has no meaning, unit or sensitivity that anyone agreed on.", "多出、缺少或错位的列没有约定的含义、单位或敏感级别。"),
        column_list=fields.names,
    )  # fmt: skip
    yield _check(
        "table.types", _IN_SET, ("A column of another type no longer means what the schema says.", "类型不同的列不再具有模式所述的含义。"),
        column="arrow_types", value_set=[types_of(fields)],
    )  # fmt: skip
    empty = ("An empty table passes every check about rows.", "空表会通过所有针对行的检查。")
    yield _check(ROW_COUNT_CHECK, "expect_table_row_count_to_be_between", empty, min_value=1)
    twice = ("A row that stands twice is counted, released and trained on twice.", "重复出现的行会被重复计数、发布和训练。")
    yield _check(f"{key}.unique", _UNIQUE, twice, column=key)


def _column_checks(table: str, fields: pa.Schema) -> Iterator[Check]:
    words, patterns = _VOCABULARIES.get(table, {}), _PATTERNS.get(table, {})
    for field in fields:
        name = field.name
        if not field.nullable:
            said = f"Every row has {name}: {field.metadata[b'doc'].decode()}."
            yield _check(f"{name}.not_null", _NOT_NULL, (said, f"每一行都必须有 {name}。"), column=name)
            if pa.types.is_string(field.type):
                text = ("Empty text is a missing value in disguise.", "空文本是伪装的缺失值。")
                yield _check(f"{name}.not_empty", _LENGTHS, text, column=name, min_value=1)
        if name in patterns:
            pattern, en, zh = patterns[name]
            yield _check(f"{name}.pattern", _MATCH, (en, zh), column=name, regex=pattern)
        if name in words:
            said_words = (
                "A word outside the closed vocabulary matches no rule, no request and no reader's filter.",
                "封闭词表之外的词不匹配任何规则、请求或读者的筛选。",
            )
            listed = list(words[name])
            yield _check(f"{name}.vocabulary", _WORDS, said_words, column=name, words=listed, vocabulary_version=version_of(listed))
        if (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)) and name not in _UNRANGED:
            low, high, why = _range(table, field)
            yield _check(f"{name}.range", _BETWEEN, why, column=name, min_value=low, max_value=high)
    if any(pa.types.is_floating(field.type) for field in fields):
        finite = (
            "NaN and infinity are no measurements, and GX takes NaN for a missing value.",
            "NaN 与无穷大不是测量值,而 GX 把 NaN 当作缺失。",
        )
        yield _check("values.finite", _IN_SET, finite, column="nonfinite", value_set=[""])


def _range(table: str, field: pa.Field) -> tuple[float, float, _Said]:
    ranges = _RELEASED_RANGES if table == "release" else _RANGES
    if field.name in ranges:
        return ranges[field.name]
    if field.metadata[b"unit"] == b"ratio":
        return 0.0, 1.0, ("A ratio lies between 0 and 1.", "比率介于 0 与 1 之间。")
    return 0, _MAX_COUNT, ("It counts or measures something that cannot be less than nothing.", "所计或所测之物不可能小于零。")


def _conserved(name: str, column: str, other: str, said: _Said, *, both_ways: bool = True) -> Check:
    return _check(name, _CONSERVED, said, of=column, needs=other, column_name=column, other=other, both_ways=both_ways)


def _fix_checks(*, is_complete: bool) -> Iterator[Check]:
    if is_complete:
        yield _check(
            "fix.complete", _IN_SET,
            ("Half a fix, or one without a datum, can be placed in the wrong province.", "不完整或无坐标系的定位可能落入错误的省份。"),
            of="latitude_deg", column="fix_state", value_set=["complete", "none"],
        )  # fmt: skip
    off = ("A fix off the globe or before the clip is no fix of this clip.", "地球之外或早于视频的定位不属于该视频。")
    yield _check("track.on_globe", _IN_SET, off, of="track", column="track_wrong_count", value_set=[0])


def _listing_rules(fields: pa.Schema) -> Iterator[Check]:  # noqa: ARG001 - the same in every version
    refused, others = _where("kind", "==", "refused"), _where("kind", "!=", "refused")
    said = ("An entry that is refused says why.", "被拒绝的条目须说明原因。")
    yield _check("refused.reason", _NOT_NULL, said, column="reason", row_condition=refused)
    said = ("A reason to refuse contradicts what the entry is listed as.", "拒绝的理由与条目的类别相矛盾。")
    yield _check("listed.no_reason", _NULL, said, column="reason", row_condition=others)
    said = ("A name that leads out of its source would be read from somewhere else.", "指向来源之外的名称会读取别处的内容。")
    yield _check("name.inside", _NO_MATCH, said, column="name", regex=r"^/|(?:^|/)\.\.(?:/|$)", row_condition=others)
    yield from _fix_checks(is_complete=False)
    said = (
        "Every entry that was listed was pulled or refused by name, and nothing else was.",
        "清单中的每个条目均已拉取或按名拒绝,且别无其他。",
    )
    yield _conserved("listing.conserved", "name", "pulled", said)


def _clips_rules(fields: pa.Schema) -> Iterator[Check]:
    quarantined, accepted, rejected = (_where("verdict", "==", verdict) for verdict in ("quarantined", "accepted", "rejected"))
    measured = _where("verdict", "!=", "quarantined")
    said = ("A clip that could not be measured says why.", "无法测量的视频须说明原因。")
    yield _check("quarantined.error", _NOT_NULL, said, column="error", row_condition=quarantined)
    said = ("An error beside a measured verdict contradicts it.", "已测量的结论旁边的错误与之矛盾。")
    yield _check("measured.no_error", _NULL, said, column="error", row_condition=measured)
    said = ("A reason to reject contradicts the verdict.", "拒收的理由与结论相矛盾。")
    yield _check("accepted.no_reasons", _IN_SET, said, of="reasons", column="reasons_count", value_set=[0], row_condition=accepted)
    yield _check(
        "rejected.reasons", _BETWEEN, ("A clip that falls short says in what.", "不合格的视频须说明何处不合格。"),
        of="reasons", column="reasons_count", min_value=1, max_value=1000, row_condition=rejected,
    )  # fmt: skip
    for name in _MEASURED_IF_ACCEPTED:
        known = ("An accepted clip was measured, so this is known.", "已接受的视频经过测量,此值应当已知。")
        yield _check(f"accepted.{name}", _NOT_NULL, known, column=name, row_condition=accepted)
    for name in (one for one in schema.SIGNALS if one in fields.names):
        said = (
            "A signal is measured, or unmeasured with a reason: never both, never neither.",
            "信号要么已测量,要么注明未测量的原因:不可兼有,不可皆无。",
        )
        yield _check(f"{name}.measured_or_not", _IN_SET, said, of=name, column=f"{name}_state", value_set=["measured", "unmeasured"])
    for name in (one for one in COUNTS if one in fields.names):
        said = (
            "Faces and plates are counted by a named detector, or not counted for a reason: what was not looked for is not none.",
            "人脸与车牌要么由具名检测器计数,要么注明未计数的原因:未查找不等于没有。",
        )
        yield _check(f"{name}.measured_or_not", _IN_SET, said, of=name, column=f"{name}_state", value_set=["measured", "unmeasured"])
    yield from _excuse_checks()
    yield from _fix_checks(is_complete=True)
    said = ("The bytes under another clip's name would be curated in its place.", "另一视频名下的字节会被误作此视频。")
    yield _check("object_uri.names_clip", _IN_SET, said, of="object_uri", column="object_names_clip", value_set=["yes"])
    said = (
        "Every clip that the listing's pull stored has its row, and no other clip has one.",
        "清单拉取所存的每个视频均有其行,别无其他视频。",
    )
    yield _conserved("clips.conserved", "clip_id", "stored", said)
    for name in (one for one in schema.SIGNALS if one in fields.names):
        said = (
            "A device whose measurements move away from its last batches has changed, or is measured otherwise.",
            "设备的测量值偏离其最近批次,说明设备或测量方式已变。",
        )
        yield _check(f"{name}.drift", _IN_SET, said, of=name, needs=DRIFT, column=f"{name}_drift", value_set=["steady"])


def _excuse_checks() -> Iterator[Check]:
    empty: tuple[tuple[str, str, _Said], ...] = (
        ("unmeasured.known", "unmeasured_unknown", ("A name that is no column excuses nothing.", "不是列名的名称不能作为理由。")),
        ("unmeasured.explained", "unmeasured_unexplained", ("Unmeasured without a reason is a gap nobody answers for.", "无理由的未测量是无人负责的空白。")),
        ("unmeasured.no_value", "unmeasured_with_value", ("A value beside its excuse is made up, or the excuse is.", "值与未测量的理由并存,其一必为虚构。")),
    )  # fmt: skip
    for check, column, said in empty:
        yield _check(check, _IN_SET, said, of="unmeasured", column=column, value_set=[""])
    said = ("A blank reason says nothing.", "空白的理由等于没有理由。")
    yield _check("reasons.not_blank", _IN_SET, said, of="reasons", column="reasons_blank_count", value_set=[0])


def _decisions_rules(fields: pa.Schema) -> Iterator[Check]:  # noqa: ARG001 - the same in every version
    said = ("A row that leaves broke no rule.", "离境的行未违反任何规则。")
    yield _check("released.no_rules", _IN_SET, said, of="withheld_by", column="released_state", value_set=["released", "withheld"])
    said = ("A blank rule id names no rule.", "空白的规则编号不指明任何规则。")
    yield _check("withheld_by.not_blank", _IN_SET, said, of="withheld_by", column="withheld_by_blank_count", value_set=[0])
    said = (
        "Each row of the snapshot was decided on, and every decision has its manifest row.",
        "快照的每一行均有决定,每项决定均有其清单行。",
    )
    yield _conserved("decisions.conserved", "clip_id", "clips", said)
    said = ("What the decisions release is what the mapping says has left, clip for clip.", "决定所放行的与映射所载离境的逐一相符。")
    yield _conserved("released.conserved", "released_clip_id", "mapped_clips", said)


def _release_rules(fields: pa.Schema) -> Iterator[Check]:
    said = ("A time finer than a month can place a vehicle.", "细于月份的时间可以定位车辆。")
    yield _check("month.coarse", "expect_column_values_to_be_coarse_time", said, column="month")
    for field in fields:
        if pa.types.is_string(field.type) and field.name != "release_row_id":
            said = (
                "Text in the form of an id, place, day or file may be one, however it came here.",
                "形似编号、地点、日期或文件的文本可能就是如此,无论其如何而来。",
            )
            kind = "expect_column_values_to_hold_nothing_sensitive"
            yield _check(f"{field.name}.nothing_sensitive", kind, said, column=field.name, forms=dict(SENSITIVE_FORMS))
    said = (
        "Each released row has its clip at home, and every clip that leaves has its row.",
        "每条发布行在境内均有其视频,每个离境视频均有其行。",
    )
    yield _conserved("release.conserved", "release_row_id", "mapping", said)


def _shards_rules(fields: pa.Schema) -> Iterator[Check]:  # noqa: ARG001 - the same in every version
    said = ("A sample in a shard of another split would be trained on and tested with.", "落入其他划分分片的样本会同时用于训练和测试。")
    yield _check("shard.of_its_split", _IN_SET, said, of="shard", column="shard_state", value_set=["of its split"])
    said = ("Only accepted clips of the pinned snapshot may be trained on.", "只有固定快照中已接受的视频可用于训练。")
    yield _conserved("shards.accepted", "clip_id", "accepted", said, both_ways=False)
    said = ("Every clip that the request takes is in a shard, and no other is.", "请求所取的每个视频均在分片中,别无其他。")
    yield _conserved("shards.conserved", "clip_id", "selected", said)


VERSIONS: Final = Path(schema.__file__).with_name("schema_versions.json")  # what each version was when it was recorded
_UNVERSIONED: Final = (
    "changed without a new version of the schema, and files of it would be held against columns that they were written without. "
    "Fix: raise SCHEMA_VERSION in curation/schema.py and give the new column that version as `since`; of a version that was never "
    "released, run `python -m curation.adapters.validator_suites --write --unreleased` instead"
)

Rules = Callable[[pa.Schema], Iterator[Check]]
# Table -> its schema, the column that tells its rows apart, and the rules that no schema says.
SUITES: Final[Mapping[str, tuple[pa.Schema, str, Rules]]] = {
    "listing": (schema.LISTING, "name", _listing_rules),
    "clips": (schema.CLIPS, "clip_id", _clips_rules),
    "decisions": (schema.DECISIONS, "clip_id", _decisions_rules),
    "release": (schema.RELEASE, "release_row_id", _release_rules),
    "shards": (schema.SHARDS, "clip_id", _shards_rules),
}


def fields_of(table: pa.Schema, version: int) -> pa.Schema:
    """The columns that a table had in a version of its schema: those that came later say so in their metadata, as `since`."""
    return pa.schema([field for field in table if int((field.metadata or {}).get(b"since", b"1")) <= version], metadata=table.metadata)


def files(tables: Mapping[str, pa.Schema] | None = None, *, current: int = int(schema.SCHEMA_VERSION)) -> dict[str, bytes]:
    """Name of each file of `expectations/` -> what it must hold: a suite per table, and one per earlier version in which it differed."""
    made: dict[str, bytes] = {}
    for name, (arrow, _, _) in SUITES.items():
        fields = (tables or {}).get(name, arrow)
        made[f"{name}.json"] = _as_json(suite(name, fields_of(fields, current), version=str(current)))
        for version in range(1, current):
            made[f"{name}.v{version}.json"] = _as_json(suite(name, fields_of(fields, version), version=str(version)))
    return made


def digests(tables: Mapping[str, pa.Schema], version: int) -> dict[str, str]:
    """Table -> SHA-256 of its columns in that version: names, types and whether they may be null, in order."""
    told = {
        name: "\n".join(f"{field.name} {type_text(field.type)} {field.nullable}" for field in fields_of(fields, version))
        for name, fields in tables.items()
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in told.items()}


def unversioned(recorded: Mapping[str, Mapping[str, str]], tables: Mapping[str, pa.Schema] | None = None) -> list[str]:
    """Tables that no longer have the columns which a version of the schema had when it was recorded, as `<table> of version <N>`.

    Args:
        recorded: version -> table -> digest, as `curation/schema_versions.json` holds them.
    """
    tables = schema.TABLES if tables is None else tables
    changed = []
    for version, known in recorded.items():
        now = digests(tables, int(version))
        changed += [f"{name} of version {version}" for name, digest in sorted(known.items()) if now.get(name) != digest]
    return changed


def _as_json(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def main(arguments: Sequence[str]) -> int:
    """Rewrite the suites with `--write`; without it, 1 if a file differs from what the schema gives.

    A version of the schema is recorded once: 1 if a table changed and its version did not, and then nothing is written. Only a version
    that was never released may be recorded again, with `--unreleased`.
    """
    parser = argparse.ArgumentParser(prog="python -m curation.adapters.validator_suites", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="rewrite expectations/*.json")
    parser.add_argument("--unreleased", action="store_true", help="record the present version again: no file of it exists anywhere")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[2] / "expectations")
    parser.add_argument("--versions", type=Path, default=VERSIONS)
    asked = parser.parse_args(arguments)
    recorded = json.loads(asked.versions.read_bytes()) if asked.versions.is_file() else {}
    if asked.unreleased:
        recorded.pop(schema.SCHEMA_VERSION, None)
    changed = unversioned(recorded)
    for name in changed:
        sys.stdout.write(f"{name}: {_UNVERSIONED}\n")
    if changed:
        return 1
    versions = {schema.SCHEMA_VERSION: digests(schema.TABLES, int(schema.SCHEMA_VERSION))} | recorded
    wanted = {asked.folder / name: data for name, data in files().items()}
    wanted[asked.versions] = (json.dumps(versions, indent=2, sort_keys=True) + "\n").encode()
    stale = {file: data for file, data in wanted.items() if not _holds(file, data)}
    for file, data in stale.items():
        if asked.write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        sys.stdout.write(f"{file.name}: {'rewritten' if asked.write else 'differs from the schema; run `make expectations`'}\n")
    return 0 if asked.write or not stale else 1


def _holds(file: Path, data: bytes) -> bool:
    return file.is_file() and file.read_bytes() == data


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""A request is read strictly, and every error points at its line and says what would be right."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import UsageError
from curation.schema import CLIPS, sensitivity_of
from curation.shards import request_schema
from curation.shards.request import MAX_REQUEST_BYTES, ShardRequest, from_mapping, parse

FULL = b"""\
name: night-rain
filter: timeofday = 'night' AND weather = 'rainy'
seed: 7
splits: {train: 0.8, val: 0.2}
group_by: time
time_block_days: 7
quality: {sharpness: {min: 40}, blockiness: {max: 3}}
quotas: {weather: {rainy: 200}, timeofday: {night: 500}}
balance: {weather: 2}
max_per_vehicle: 50
max_per_drive: 5
near_duplicates: keep_together
max_samples: 100
shard_size_bytes: 1000000
columns: [weather, timeofday]
masked: false
"""


def test_a_full_request_is_read() -> None:
    """Every key of the file ends in the field of its name."""
    request = parse(FULL, "request.yaml")
    assert request.name == "night-rain"
    assert request.seed == 7
    assert request.splits == {"train": 0.8, "val": 0.2}
    assert request.columns == ("timeofday", "weather")
    assert request.filter_columns() == {"timeofday", "weather"}
    assert {"sharpness": (40.0, None), "blockiness": (None, 3.0)} == {name: (one.min, one.max) for name, one in request.quality.items()}
    assert request.quotas.wanted() == (("timeofday", "night", 500), ("weather", "rainy", 200))
    assert request.balance.ratios() == (("weather", 2.0),)
    assert (50, 5, "keep_together", "time", 7) == (
        request.max_per_vehicle,
        request.max_per_drive,
        request.near_duplicates,
        request.group_by,
        request.time_block_days,
    )
    assert request == from_mapping(request.model_dump(mode="json"))


def test_without_columns_only_public_ones_enter() -> None:
    """The default holds the tags and public signals and nothing that tells a place, person, vehicle or device."""
    columns = parse(b"name: a", "request.yaml").columns
    assert {"timeofday", "weather", "scene", "sharpness"} <= set(columns)
    assert {"public"} == {sensitivity_of(CLIPS.field(name)) for name in columns}


def test_a_form_and_a_file_make_the_same_request() -> None:
    """A mapping with nulls for what is not asked equals the file without these keys."""
    form = from_mapping({"name": "a", "filter": None, "max_samples": None, "columns": None, "quotas": None, "quality": None})
    assert parse(b"name: a", "request.yaml") == form


def test_the_digest_ignores_order_and_sees_every_value() -> None:
    """Reordered splits and columns are the same request; another seed is another."""
    first = from_mapping({"name": "a", "splits": {"x": 0.5, "y": 0.5}, "columns": ["weather", "scene"]})
    again = from_mapping({"name": "a", "splits": {"y": 0.5, "x": 0.5}, "columns": ["scene", "weather"]})
    other = from_mapping({"name": "a", "splits": {"y": 0.5, "x": 0.5}, "columns": ["scene", "weather"], "seed": 1})
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()


@pytest.mark.parametrize(
    ("text", "line", "problem", "fix"),
    [
        ("name: a\n\nsplits:\n  train: 0.5\n  val: x\n", 5, "splits.val", "add up to 1"),
        ("name: a\nsplits: {train: 0.5, val: 0.4}", 2, "add up to 0.9, not 1", "{train: 0.8, val: 0.1, test: 0.1}"),
        ("name: a\nsplits: {train: .nan}", 2, "finite", "add up to 1"),
        ("name: a\nsplits: {}", 2, "add up to 0", "add up to 1"),
        ("name: a\nsplits:\n  filtered_out: 1.0", 3, "cannot name a split", "names"),
        ("seed: 3\nname: Bad Name", 2, "name", "slug"),
        ("seed: 3", 1, "name is missing", "slug"),
        ("name: a\ncolumns:\n- weather\n- wether", 4, "did you mean weather", "manifest columns"),
        ("name: a\ncolumns: [weather, weather]", 2, "named twice", "manifest columns"),
        ("name: a\ncolums: [weather]", 2, "there is no key colums", "did you mean columns"),
        ("name: a\nzzzzzz: 1", 2, "there is no key zzzzzz", "use only name, filter"),
        ("name: a\nmasked: faces", 2, "masked", "faces and plates masked in every frame"),
        ("name: a\nformat: parquet", 2, "format", "webdataset"),
        ("name: a\nform: pictures", 2, "form", "whole clips"),
        ("name: a\nform: frames\nframes:\n  fps: 0", 4, "frames.fps", "pictures per second"),
        ("name: a\nform: frames\nframes: {fsp: 2}", 3, "frames.fsp", "did you mean fps"),
        ("name: a\nframes: {fps: 2}", 2, "the form is clips", "form: frames"),
        ("name: a\nquality:\n  sharpness:\n    mim: 3", 4, "no key quality.sharpness.mim", "did you mean min"),
        ("name: a\nquality:\n  sharpnes: {min: 3}", 3, "did you mean sharpness", "limits"),
        ("name: a\nquality:\n  sharpness:\n    min: x", 4, "quality.sharpness.min", "the least value"),
        ("name: a\nquality: {sharpness: {}}", 2, "limits nothing", "{min: 40}"),
        ("name: a\nquality: {sharpness: {min: 3, max: 2}}", 2, "nothing lies between", "{min: 40}"),
        ("name: a\nquotas:\n  wether: {rainy: 3}", 3, "no key quotas.wether", "did you mean weather"),
        ("name: a\nquotas:\n  weather:\n    rain: 3", 4, "did you mean rainy", "by weather"),
        ("name: a\nquotas:\n  weather:\n    rainy: 0", 4, "quotas.weather.rainy", "by weather"),
        ("name: a\nbalance: {weather: 0.5}", 2, "balance.weather", "1 or more"),
        ("name: a\nmax_per_vehicle: 0", 2, "max_per_vehicle", "at least 1"),
        ("name: a\nmax_per_drive: x", 2, "max_per_drive", "at least 1"),
        ("name: a\nnear_duplicates: keep", 2, "near_duplicates", "keep_together"),
        ("name: a\ngroup_by: city", 2, "group_by", "never straddle"),
        ("name: a\ntime_block_days: 7", 2, "group_by is not time", "only with group_by"),
        ("name: a\nsplits: {withdrawn: 1.0}", 2, "left out", "names with ratios"),
        ("name: a\nsplits: {unmaskable: 1.0}", 2, "left out", "names with ratios"),
        ("name: a\nshard_size_bytes: 10", 2, "10240", "whole number of bytes"),
        ("name: a\nmax_samples: 0", 2, "max_samples", "at least 1"),
        ("name: a\nseed: true", 2, "seed", "whole number"),
        ("name: a\nseed: '7'", 2, "seed", "whole number"),
        ("name: a\nfilter: |\n  wether = 'x'", 2, "did you mean weather", "true-or-false"),
        ("name: a\nfilter: sharpness", 2, "yields DOUBLE", "true-or-false"),
        ("name: a\nname: b", 2, "stands twice", "keep one"),
        ("name: a\n  b: c", 2, "not YAML", "docs/shards.md"),
        ("name: &x a\nfilter: *x", 2, "alias", "write the values out"),
        ("name: [[[[[[[[[[", 1, "nested deeper", "one level"),
        ("- name: a", 1, "not a mapping", "docs/shards.md"),
        ("name: !!python/object/apply:os.system [ls]", 1, "not YAML", "docs/shards.md"),
        ("name: a\n---\nname: b", 2, "another document", "docs/shards.md"),
    ],
)
def test_an_error_points_at_its_line(text: str, line: int, problem: str, fix: str) -> None:
    """The subject is file and line, the problem says what stands there, the fix what would be right."""
    with pytest.raises(UsageError) as refused:
        parse(text.encode(), "request.yaml")
    assert refused.value.subject == f"request.yaml line {line}"
    assert problem in refused.value.problem
    assert fix in refused.value.fix


def test_masked_shards_are_another_request() -> None:
    """Whether faces and plates must be masked is part of what is asked, and false where nothing is said."""
    plain, masked = from_mapping({"name": "a"}), from_mapping({"name": "a", "masked": True})
    assert (False, True) == (plain.masked, masked.masked)
    assert plain.digest() == from_mapping({"name": "a", "masked": False}).digest() != masked.digest()


def test_a_request_is_of_bounded_size() -> None:
    """A file larger than any honest request is refused before it is parsed."""
    with pytest.raises(UsageError, match=str(MAX_REQUEST_BYTES)):
        parse(b"#" * (MAX_REQUEST_BYTES + 1), "request.yaml")


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_any_bytes_are_a_request_or_a_usage_error(data: bytes) -> None:
    """No input ends in any other error."""
    try:
        request = parse(data, "request.yaml")
    except UsageError:
        return
    assert isinstance(request, ShardRequest)


_NAMES = st.sampled_from(sorted(ShardRequest.model_fields))
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_any_form_is_a_request_or_a_usage_error(form: dict[str, object]) -> None:
    """No value in a known field ends in any other error."""
    try:
        request = from_mapping({"name": "a"} | form)
    except UsageError:
        return
    assert len(request.digest()) == 64


def test_the_documented_request_is_one() -> None:
    """The example of docs/shards.md parses as it stands."""
    page = (Path(__file__).parents[2] / "docs" / "shards.md").read_text(encoding="utf-8")
    assert parse(page.split("```yaml\n")[1].split("```")[0].encode(), "docs/shards.md").name == "night-rain"


def test_frames_follow_their_form() -> None:
    """The form alone asks for frames with defaults, which is the same request as one that names them."""
    plain = parse(b"name: a\nform: frames", "request.yaml")
    assert plain.frames is not None
    assert (plain.frames.fps, plain.frames.width_px, plain.frames.jpeg_quality) == (2.0, None, 90)
    assert plain.digest() == parse(b"name: a\nform: frames\nframes: {fps: 2, jpeg_quality: 90}", "request.yaml").digest()
    assert parse(b"name: a", "request.yaml").frames is None


def test_the_documentation_names_every_key() -> None:
    """A key that is added to the request is explained there."""
    page = (Path(__file__).parents[2] / "docs" / "shards.md").read_text(encoding="utf-8")
    assert [key for key in ShardRequest.model_fields if f"`{key}`" not in page] == []


def test_the_json_schema_is_that_of_the_model() -> None:
    """The committed file is what the model says; `make expectations` rewrites it."""
    assert request_schema.text() == request_schema.PATH.read_text(encoding="utf-8")


def test_the_json_schema_takes_what_the_reader_takes() -> None:
    """The documented request fits the schema, and a misspelt tag value, key or signal does not."""
    checked = jsonschema.Draft202012Validator(request_schema.schema())
    assert [] == list(checked.iter_errors(yaml.safe_load(FULL)))
    for wrong in ({"quotas": {"weather": {"rain": 3}}}, {"quality": {"sharpnes": {"min": 3}}}, {"colums": ["weather"]}, {"seed": "7"}):
        assert [] != list(checked.iter_errors({"name": "a"} | wrong))

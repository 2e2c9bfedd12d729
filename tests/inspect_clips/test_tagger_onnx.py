"""The ONNX tagger on a real, tiny ONNX file that this test writes: it names, hesitates, and refuses what it was not told of."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from curation import wiring
from curation.adapters.tagger_onnx import OnnxTagger
from curation.adapters.tagger_picture import PictureTagger
from curation.errors import SettingsError
from curation.settings import InspectSettings, OnnxTaggerSettings


def _field(number: int, value: int | bytes | str) -> bytes:
    """One field of a protobuf message: a varint, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _tensor(name: str, shape: Sequence[int], values: Sequence[float]) -> bytes:
    dims = b"".join(_field(1, size) for size in shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, struct.pack(f"<{len(values)}f", *values))


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _node(kind: str, inputs: Sequence[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(3, output) + _field(4, kind) + attributes


def _model() -> bytes:
    """Mean colour -> two times of day (blue against none) and three weathers (red, green, blue), by the ONNX protobuf schema, opset 13."""
    nodes = [_node("GlobalAveragePool", ["picture"], "pooled"), _node("Flatten", ["pooled"], "mean")]
    nodes += [_node("Gemm", ["mean", "w1", "b1"], "light"), _node("Gemm", ["mean", "w2", "b2"], "sky")]
    tensors = [_tensor("w1", (3, 2), (0, 0, 0, 0, 20, -20)), _tensor("b1", (2,), (-8, 8))]
    tensors += [_tensor("w2", (3, 3), (9, 0, 0, 0, 9, 0, 0, 0, 9)), _tensor("b2", (3,), (0, 0, 0))]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, "tiny") + b"".join(_field(5, tensor) for tensor in tensors)
    graph += _field(11, _value("picture", (1, 3, 4, 8))) + _field(12, _value("light", (1, 2))) + _field(12, _value("sky", (1, 3)))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """Settings of the tiny model."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(_model())
    return {
        "model": path,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "width_px": 8,
        "height_px": 4,
        "outputs": {
            "timeofday": {"name": "light", "values": ("daytime", "night")},
            "weather": {"name": "sky", "values": ("rainy", "clear", "overcast")},
        },
    }


def _frame(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((36, 64, 3), (blue, green, red), np.uint8)


def _tagger(settings: dict[str, Any], **changes: Any) -> OnnxTagger:
    return OnnxTagger(OnnxTaggerSettings.model_validate(settings | changes), otherwise=PictureTagger())


def test_the_model_names_its_tags_and_the_picture_tagger_the_rest(settings: dict[str, Any]) -> None:
    """Outputs become tags with the mean confidence of all frames; a tag without an output is as before."""
    tags = _tagger(settings).tag([_frame(0, 250, 0), _frame(0, 255, 0)])
    assert ("night", "clear", "undefined") == (tags.timeofday, tags.weather, tags.scene)
    assert tags.weather_confidence == pytest.approx(np.mean([1 / (1 + 2 * np.exp(-9 * green / 255)) for green in (250, 255)]), abs=1e-3)
    assert f"onnx-{settings['sha256'][:12]}+picture-1" == tags.tagger_version
    assert "daytime" == _tagger(settings).tag([_frame(0, 0, 255)]).timeofday


def test_a_model_that_hesitates_says_undefined(settings: dict[str, Any]) -> None:
    """Grey is a third of each weather: below the least confidence the tag is undefined, with none."""
    tags = _tagger(settings).tag([_frame(128, 128, 128)])
    assert ("undefined", 0.0) == (tags.weather, tags.weather_confidence)
    assert "undefined" == _tagger(settings).tag([]).weather


def test_another_file_than_the_named_one_is_not_run(settings: dict[str, Any], tmp_path: Path) -> None:
    """One changed byte, a missing file and a file that is no ONNX are refused before a clip is looked at."""
    settings["model"].write_bytes(_model() + b"\0")
    with pytest.raises(SettingsError, match="has SHA-256"):
        _tagger(settings)
    with pytest.raises(SettingsError, match="cannot be read"):
        _tagger(settings, model=tmp_path / "none.onnx")
    settings["model"].write_bytes(b"no model")
    with pytest.raises(SettingsError, match="no ONNX"):
        _tagger(settings, sha256=hashlib.sha256(b"no model").hexdigest())


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"name": "light", "values": ("daytime", "night", "dawn/dusk")}, "gives 2 numbers for 3"),
        ({"name": "x", "values": ("daytime", "night")}, "has no output x, but light, sky"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(settings: dict[str, Any], output: dict[str, Any], message: str) -> None:
    """An output that is missing, or has another number of values, names no tag."""
    with pytest.raises(SettingsError, match=message):
        _tagger(settings, outputs={"timeofday": output}).tag([_frame(0, 0, 0)])


def test_only_values_of_the_vocabulary_may_be_named(settings: dict[str, Any]) -> None:
    """A value that BDD100K does not know is refused with the settings."""
    with pytest.raises(ValidationError, match="timeofday knows no dusk"):
        _tagger(settings, outputs={"timeofday": {"name": "light", "values": ("daytime", "dusk")}})


def test_the_settings_choose_the_tagger_and_change_the_digest(settings: dict[str, Any]) -> None:
    """`[inspect.tagger]` plugs the model in, and rows tagged without it carry another digest."""
    policy = InspectSettings.model_validate({"tagger": settings})
    assert isinstance(wiring.tagger(policy.tagger), OnnxTagger)
    assert isinstance(wiring.tagger(InspectSettings().tagger), PictureTagger)
    assert InspectSettings().digest() != policy.digest()
    assert policy == InspectSettings.model_validate(policy.model_dump(mode="json"))

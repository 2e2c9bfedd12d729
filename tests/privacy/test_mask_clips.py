"""Masked copies: every frame at its own time, every mask solid, nothing else of the source."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from curation import wiring
from curation.errors import ClipUnreadable, UsageError
from curation.model_settings import ObjectKind
from curation.privacy.boxes import Box
from curation.privacy.paint import GREY, NO_COLOUR, paint_planes, painted
from curation.records import Detection
from curation.stages import mask_clips
from tests.shards.masked import MODELS, SIDE_PX, Square
from tests.turned import turned

_MODEL = MODELS["face"]


def _white(misses: range = range(8, 13)) -> Square:
    """Finds the white square of a picture, but misses it in some frames."""
    return Square("face", "white-1", misses.__contains__)


def _picture(number: int, *, width_px: int = 160, height_px: int = 96) -> np.ndarray:
    picture = np.full((height_px, width_px, 3), 60, np.uint8)
    if 5 <= number < 25:
        picture[40 : 40 + SIDE_PX, 20 + 4 * (number - 5) : 20 + 4 * (number - 5) + SIDE_PX] = 255
    return picture


def _masked(clip: Path, target: Path, *, every: int = 1) -> mask_clips.Masked:
    return mask_clips.run(clip, target, masker=wiring.masker(), detectors={"face": _white()}, models={"face": _MODEL}, every=every)


def _frames(path: Path) -> tuple[list[Fraction], list[np.ndarray]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts * stream.time_base, frame.to_ndarray(format="bgr24")) for frame in container.decode(stream)]
    return [at for at, _ in frames], [picture for _, picture in frames]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A white square that crosses a picture in 30 frames, four of which the recorder dropped."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    wiring.video_writer().write(path, map(_picture, range(34)), fps=Fraction(30000, 1001), skip=frozenset({2, 3, 15, 28}))
    return path


def test_each_frame_is_written_at_its_own_time_and_the_square_is_in_none(clip: Path, tmp_path: Path) -> None:
    """As many frames, equal times, gaps included; the frames in which it was missed are masked as those around them."""
    told = _masked(clip, tmp_path / "masked.mp4")
    before, _ = _frames(clip)
    after, pictures = _frames(tmp_path / "masked.mp4")
    assert before == after
    assert (30, {"face": 1}, "white-1") == (told.frame_count, told.track_counts, told.detector_versions)
    assert told.mask_count >= 19
    assert max(int(picture.max()) for picture in pictures) < 140


def test_detection_on_every_third_frame_masks_all_of_them(clip: Path, tmp_path: Path) -> None:
    """Tracks fill the frames between; a third of the looks."""
    _masked(clip, tmp_path / "masked.mp4", every=3)
    assert max(int(picture.max()) for picture in _frames(tmp_path / "masked.mp4")[1]) < 140


def test_the_last_frame_is_looked_at_and_long_pauses_are_refused(tmp_path: Path) -> None:
    """What comes into view after the last look but one is masked at the end; more than six frames between looks is wrong use."""
    clip = tmp_path / "late.mp4"
    wiring.video_writer().write(clip, map(_picture, range(8)), fps=Fraction(25))
    stub = _white()
    told = mask_clips.run(clip, tmp_path / "masked.mp4", masker=wiring.masker(), detectors={"face": stub}, models={"face": _MODEL}, every=6)
    assert (2, 1) == (stub.shown, told.track_counts["face"])  # nothing was known in the sixth frame
    assert max(int(picture.max()) for picture in _frames(tmp_path / "masked.mp4")[1]) < 140
    for every in (0, 7):
        with pytest.raises(UsageError, match="every"):
            _masked(clip, tmp_path / "masked.mp4", every=every)


def test_what_came_between_two_looks_at_all_of_it_is_masked_from_where_it_came(tmp_path: Path) -> None:
    """It came a frame after such a look, and the look six frames on was spared: the one after that masks it eleven frames back."""
    clip = tmp_path / "early.mp4"
    shown = [_picture(0), *(_picture(5 + number // 4) for number in range(20))]
    wiring.video_writer().write(clip, iter(shown), fps=Fraction(25))
    eye = _white(range(0))
    mask_clips.run(clip, tmp_path / "masked.mp4", masker=wiring.masker(), detectors={"face": eye}, models={"face": _MODEL}, every=6)
    assert 4 == eye.shown  # 0, 12, 18 in part, and the last, 20
    assert max(int(picture.max()) for picture in _frames(tmp_path / "masked.mp4")[1]) < 140


def test_a_clip_that_shows_other_frames_when_it_is_read_again_is_refused(tmp_path: Path) -> None:
    """It was replaced by one as long after it was looked at: no frame is written that no model saw."""
    clip, other = tmp_path / "clip.mp4", tmp_path / "other.mp4"
    for path, first in ((clip, 0), (other, 4)):
        wiring.video_writer().write(path, (_picture(first + number) for number in range(6)), fps=Fraction(25))

    class _Swaps(Square):
        def find(self, picture: np.ndarray, *, min_score: float | None = None, within: Box | None = None) -> Sequence[Detection]:
            if other.exists():
                other.replace(clip)
            return super().find(picture, min_score=min_score, within=within)

    eyes = {"face": _Swaps("face", "white-1")}
    with pytest.raises(ClipUnreadable, match="another frame when it was read again"):
        mask_clips.run(clip, tmp_path / "masked.mp4", masker=wiring.masker(), detectors=eyes, models={"face": _MODEL})
    assert [] == sorted(tmp_path.glob("*masked*"))


def test_sound_metadata_and_messages_of_the_source_stay_behind(clip: Path, tmp_path: Path) -> None:
    """A clip with sound, a place and a title in its header, and a first frame at 0.8 s: its times are kept, and nothing else."""
    rich = tmp_path / "rich.mp4"
    _with_sound_and_place(clip, rich)
    assert all(word in rich.read_bytes() for word in (b"+31.2304", b"SECRET", b"x264", b"mp4a"))
    _masked(rich, tmp_path / "masked.mp4")
    data = (tmp_path / "masked.mp4").read_bytes()
    assert [] == [word for word in (b"+31.2304", b"SECRET", b"x264", b"Lavf", b"Lavc", b"mp4a") if word in data]
    with av.open(str(tmp_path / "masked.mp4")) as container:
        assert ["video"] == [stream.type for stream in container.streams]
        assert not {"creation_time", "location", "title", "encoder"} & container.metadata.keys()
    assert _frames(rich)[0] == _frames(tmp_path / "masked.mp4")[0]
    assert _frames(rich)[0][0] >= Fraction(8, 10)


def _with_sound_and_place(clip: Path, target: Path) -> None:
    with av.open(str(clip)) as source, av.open(str(target), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({"title": "SECRET-TITLE", "location": "+31.2304+121.4737/", "creation_time": "2026-11-21T10:00:00Z"})
        read = source.streams.video[0]
        pictures = container.add_stream("libx264", rate=30)
        pictures.width, pictures.height, pictures.pix_fmt = 160, 96, "yuv420p"
        pictures.codec_context.time_base = read.time_base
        sound = container.add_stream("aac", rate=8000)
        for frame in source.decode(read):
            frame.pts += round(Fraction(8, 10) / read.time_base)
            container.mux(pictures.encode(frame))
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 8000
        container.mux(sound.encode(tone))
        for stream in (pictures, sound):
            container.mux(stream.encode())


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_clip_is_seen_and_masked_as_players_show_it(clip: Path, tmp_path: Path, quarters: int) -> None:
    """The detector sees it upright, its boxes fit what is shown, and the copy needs no turning: a bar at the shown edge stays there."""
    shown: list[np.ndarray] = []

    class _Watching(Square):
        def find(self, picture: np.ndarray, *, min_score: float | None = None, within: Box | None = None) -> Sequence[Detection]:
            shown.append(picture)
            return super().find(picture, min_score=min_score)

    aside = turned(clip, tmp_path / "turned.mp4", quarters)
    detectors: dict[ObjectKind, Square] = {"face": _Watching("face", "white-1", range(8, 13).__contains__)}
    mask_clips.run(aside, tmp_path / "masked.mp4", masker=wiring.masker(), detectors=detectors, models={"face": _MODEL})
    coded = _frames(clip)[1]
    assert all(np.abs(np.rot90(one, quarters).astype(int) - seen).max() <= 2 for one, seen in zip(coded, shown, strict=True))
    with av.open(str(tmp_path / "masked.mp4")) as container:
        frame = next(container.decode(video=0))
        assert ((96, 160) if quarters == 2 else (160, 96), 0) == ((frame.height, frame.width), frame.rotation)
    times, pictures = _frames(tmp_path / "masked.mp4")
    assert _frames(aside)[0] == times
    assert max(int(picture.max()) for picture in pictures) < 140
    for number in (0, 14, 25):  # masked where the square is shown, and nowhere at the end that it has not reached
        squares = np.argwhere(np.rot90(coded[number], quarters)[..., 1] > 200)
        assert all(abs(int(pictures[number][y, x, 1]) - GREY) <= 12 for y, x in squares[:: max(1, len(squares) // 20)])


def test_odd_sizes_and_other_containers_are_masked_too(tmp_path: Path) -> None:
    """A Matroska file of 161 x 97 px in another codec comes out with as many frames at the same times."""
    odd = tmp_path / "odd.mkv"
    with av.open(str(odd), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 161, 97, "bgr0"
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(_picture(number, width_px=161, height_px=97), format="bgr24").reformat(format="bgr0")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    _masked(odd, tmp_path / "masked.mp4")
    after, pictures = _frames(tmp_path / "masked.mp4")
    assert _frames(odd)[0] == after
    assert (97, 161, 3) == pictures[0].shape


def test_what_cannot_be_seen_or_kept_is_refused_and_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    """A damaged frame, and bytes that are no video: an error, and no file."""
    data = bytearray(clip.read_bytes())
    middle = data.rindex(b"mdat") + (len(data) - data.rindex(b"mdat")) // 2
    data[middle : middle + 400] = bytes(400)
    (tmp_path / "damaged.mp4").write_bytes(data)
    (tmp_path / "text.mp4").write_bytes(b"no video")
    for name in ("damaged.mp4", "text.mp4"):
        with pytest.raises(ClipUnreadable):
            _masked(tmp_path / name, tmp_path / "masked.mp4")
    assert [] == list(tmp_path.glob("*masked*"))


class _Half:
    """Masks half of the frames and stops."""

    def __init__(self) -> None:
        self.real = wiring.masker()
        self.open = self.real.open

    def write(self, path: Path, target: Path, masking: object) -> int:
        target.write_bytes(b"half")
        return 15


def test_a_copy_with_other_frames_than_were_seen_is_not_kept(clip: Path, tmp_path: Path) -> None:
    """What came out short was not masked as it was seen: the file goes, and the error says how many came out."""
    with pytest.raises(ClipUnreadable, match="15 of 30 frames"):
        mask_clips.run(clip, tmp_path / "masked.mp4", masker=_Half(), detectors={"face": _white()}, models={"face": _MODEL})
    assert not (tmp_path / "masked.mp4").exists()


def test_every_pixel_that_a_mask_touches_is_one_grey() -> None:
    """Nothing of what was there is left to be undone: parts of pixels count as whole ones, and the picture given stays as it was."""
    picture = np.random.default_rng(1).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    before = picture.copy()
    after = painted(picture, np.array([[2.5, 3.5, 4.0, 5.0]]))
    assert {GREY} == set(after[3:9, 2:7].ravel().tolist())
    assert (before == picture).all()
    after[3:9, 2:7] = before[3:9, 2:7]
    assert (before == after).all()


def test_of_planes_no_sample_is_left_that_shares_a_pixel_with_a_mask() -> None:
    """The mask of the last test lies on 6 x 5 pixels, and with them on 3 x 3 samples of each colour; the rest stays as it was."""
    planes = np.random.default_rng(1).integers(0, 100, (30, 20)).astype(np.uint8)
    before = planes.copy()
    paint_planes(planes, np.array([[2.5, 3.5, 4.0, 5.0]]), 20)
    assert {GREY} == set(planes[3:9, 2:7].ravel().tolist())
    colours = planes[20:].reshape(2, 10, 10)
    assert {NO_COLOUR} == set(colours[:, 1:5, 1:4].ravel().tolist())
    assert 5 * 6 + 2 * 4 * 3 == int((planes != before).sum())


def test_what_no_mask_touches_is_kept_as_it_was_coded(clip: Path, tmp_path: Path) -> None:
    """Samples go from decoder to encoder as they are, with what their colours mean."""
    wiring.masker().write(clip, tmp_path / "masked.mp4", lambda _, __: np.zeros((0, 4)))
    with av.open(str(clip)) as before, av.open(str(tmp_path / "masked.mp4")) as after:
        for one, other in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert (one.format.name, one.color_range, one.colorspace) == (other.format.name, other.color_range, other.colorspace)
            apart = one.to_ndarray().astype(int) - other.to_ndarray()
            assert float((apart**2).mean()) < 6.5  # 40 dB

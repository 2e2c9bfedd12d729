"""Clips with a white square that stands for a face, what finds it, and leave to mask it: for tests of masked copies and shard sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from curation import wiring
from curation.adapters.engine_local import InlineEngine
from curation.adapters.video_av import AvVideoReader
from curation.model_settings import ModelSettings, ObjectKind
from curation.ports import ObjectStore
from curation.privacy.boxes import Box
from curation.privacy.proof import MaskProof
from curation.records import Detection
from curation.shards import masked_copies
from curation.shards.masking import MaskingModel, Permit
from curation.stages import mask_clips, shards

FRAMES, FPS, SIDE_PX = 12, 6, 16
SECRETS = (b"SECRET-TITLE", b"+31.2304", b"mp4a")  # title, place and sound of every clip
MODEL = {
    "form": "centerface",
    "source": {"kind": "store", "key": "none"},
    "sha256": "0" * 64,
    "licence": "none",
    "min_score": 0.5,
    "self_test": {"out": (0.0,)},
}
MODELS: Mapping[ObjectKind, ModelSettings] = {
    kind: ModelSettings.model_validate({**MODEL, "finds": kind})
    for kind in ("face", "plate")  # type: ignore[misc]  # these two
}
VERSIONS: Mapping[ObjectKind, str] = {"face": "white-1", "plate": "none-1"}


class Square:
    """Finds the white square of a picture as a face, but not in those, by their number among the shown, that it `misses`; no plate."""

    def __init__(self, kind: ObjectKind, version: str, misses: Callable[[int], bool] = lambda number: number % 3 == 1) -> None:
        self.version, self.finds, self.shown = version, kind, 0
        self._misses = misses

    def find(self, picture: np.ndarray, *, min_score: float | None = None, within: Box | None = None) -> Sequence[Detection]:
        """The square."""
        number, self.shown = self.shown, self.shown + 1
        rows, columns = np.nonzero(picture.min(axis=2) > 200)
        if self.finds == "plate" or self._misses(number) or not len(rows):
            return ()
        return (Detection(x_px=float(columns.min()), y_px=float(rows.min()), width_px=SIDE_PX, height_px=SIDE_PX, score=0.9),)


CLEAN = MaskProof(frames=(0, 11), residues=(), unmeasured=None, versions="eye-1")
IDENTITY = mask_clips.identity(VERSIONS, {"eye": "eye-1"}, 0.5)
PERMIT = Permit(
    models={kind: MaskingModel(name=kind, version=version, sha256="0" * 64) for kind, version in VERSIONS.items()},
    provers={"eye": MaskingModel(name="eye", version="eye-1", sha256="2" * 64)},
    masking=IDENTITY,
    evaluation_id="20261121T100000-white-1+none-1",
    evaluation_sha256="e" * 64,
    result="passed",
    is_demo=True,
    evaluated_at=datetime(2026, 11, 21, tzinfo=UTC),
    expires_at=datetime(2027, 11, 21, tzinfo=UTC),
)


def equipment(identity: str = IDENTITY, prove: Callable[[Path], MaskProof] = lambda _: CLEAN) -> mask_clips.Equipment:
    """What masks the square."""
    detectors = {kind: Square(kind, version) for kind, version in VERSIONS.items()}
    return mask_clips.Equipment(masker=wiring.masker(), detectors=detectors, models=MODELS, prove=prove, identity=identity)


def engine(store: ObjectStore, with_equipment: Callable[[], mask_clips.Equipment] = equipment) -> InlineEngine:
    """Writes shards and masked copies in this process."""
    ports = {"store": store, "video": AvVideoReader()}
    return InlineEngine(
        {
            shards.JOB: partial(shards.answer_shard, **ports),
            shards.LOOK_JOB: partial(shards.look_at_clip, **ports),
            masked_copies.JOB: lambda item: mask_clips.answer_copy(item, store=store, equipment=with_equipment()),
        }
    )


def picture(number: int, *, seed: int) -> np.ndarray:
    """A frame: a still dark texture, and the square on its way across the upper half."""
    rng = np.random.default_rng(seed)
    frame = cv2.resize(rng.integers(20, 120, (6, 10, 3), dtype=np.uint8), (160, 96), interpolation=cv2.INTER_CUBIC)
    frame[10 : 10 + SIDE_PX, 8 * number + 4 : 8 * number + 4 + SIDE_PX] = 255
    return frame


def write(path: Path, *, seed: int) -> Path:
    """A clip of two seconds with sound, a title and a place."""
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({"title": "SECRET-TITLE", "location": "+31.2304+121.4737/", "creation_time": "2026-11-21T10:00:00Z"})
        stream = container.add_stream("libx264", rate=Fraction(FPS), options={"preset": "veryfast", "crf": "16"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        sound = container.add_stream("aac", rate=8000)
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, seed=seed), format="bgr24")))
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        tone.sample_rate = 8000
        container.mux(sound.encode(tone))
        for one in (stream, sound):
            container.mux(one.encode())
    return path


def check_masked(shown: np.ndarray, number: int, *, seed: int) -> None:
    """Where the square was there is one grey, and far below it the picture is as it was."""
    expected, left = picture(number, seed=seed), 8 * number + 4
    inside = shown[12 : 8 + SIDE_PX, left + 2 : left - 2 + SIDE_PX].astype(int)
    assert abs(inside - 114).max() < 20, f"frame {number} shows what was to be masked"
    assert abs(shown[56:].astype(int) - expected[56:].astype(int)).mean() < 6, f"frame {number} is another picture"

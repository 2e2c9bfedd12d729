"""Settings to adapters: the only place that knows both.

Heavy adapters are imported by the function that chooses them, so that a worker that only reads video starts in a moment.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from curation import __version__, layout, schema
from curation.adapters.clock_system import clock_from
from curation.adapters.ledger_key import load_or_make, load_public
from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger
from curation.digests import sha256_hex
from curation.errors import ModelRefused, PackRefused, SettingsError
from curation.model_settings import DetectSettings, ModelSettings, ObjectKind
from curation.ports import (
    Clock,
    Detector,
    Engine,
    Eraser,
    FaceFinder,
    HashIndex,
    HomeCatalog,
    Ledger,
    Lineage,
    Masker,
    ModelSource,
    ObjectStore,
    OverseasCatalog,
    Places,
    Source,
    Tagger,
    TextReader,
    Upkeep,
    Validator,
    VideoReader,
    VideoWriter,
)
from curation.settings import (
    MIB,
    SHIPPED_EXPECTATIONS,
    EngineSettings,
    FsspecSourceSettings,
    HomeSettings,
    OnnxTaggerSettings,
    PublisherSettings,
    S3SourceSettings,
    S3StoreSettings,
    Settings,
    StoreSettings,
)

if TYPE_CHECKING:
    from curation.adapters.catalog_process import ProcessCatalog
    from curation.adapters.store_s3 import S3Store
    from curation.stages.release import Law

_SIGNATURES_SUFFIX = ".signatures.json"
_BASELINE = "cn-baseline.yaml"
MODELS_RESIDENT_BYTES = 1024 * MIB  # those that mask and those that look again: a worker took 1.15 GiB in all on 2560 x 1920


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every stage works with, pulling included."""

    store: ObjectStore
    ledger: Ledger
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Home(Ground):
    """What every stage at home works with that reads or writes tables."""

    catalog: HomeCatalog


def ground(settings: Settings) -> Ground:
    """Store, ledger and clock at home; without the catalog's libraries, which take 0.5 s of CPU and 45 MiB."""
    objects, now = store(settings), clock()
    key = load_or_make(settings.ledger_key, settings.ledger_public_key)
    ledger = StoreLedger(objects, now, key, turn=_turn_at_ledger(settings, objects), stamp=partial(_stamp, settings))
    return Ground(store=objects, ledger=ledger, clock=now)


def _stamp(settings: Settings) -> Mapping[str, str]:
    """What every new entry of the ledger says of how it was made; `none` where the pack in force is not there."""
    pack = settings.residency.pack
    try:
        digest = sha256_hex(_shipped_pack() if pack is None else pack.read_bytes())
    except OSError:
        digest = "none"
    return {"code_version": __version__, "pack_in_force": digest}


def _shipped_pack() -> bytes:
    return resources.files("curation.residency").joinpath("packs", _BASELINE).read_bytes()


def _turn_at_ledger(settings: Settings, objects: ObjectStore) -> Callable[[], AbstractContextManager[None]]:
    """What keeps the ledger's writers apart: the store, asked at the first write, where it can; else the home catalog's database."""
    if not isinstance(settings.store, S3StoreSettings):
        return nullcontext
    from curation.adapters.store_s3 import S3Store

    def turn() -> AbstractContextManager[None]:
        if isinstance(objects, S3Store) and objects.keeps_writers_apart():
            return nullcontext()
        from curation.adapters.ledger_lock_sql import SqlTurn

        return SqlTurn(settings.home_catalog.uri)()

    return turn


def turn_at_main(settings: Settings) -> Callable[[], AbstractContextManager[None]]:
    """What lets one batch at a time be audited for main, so that none is audited in vain; nothing where the catalog is no SQL database."""
    from curation.adapters.ledger_lock_sql import SqlTurn

    try:
        return SqlTurn(settings.home_catalog.uri, at="main")
    except SettingsError:  # then compare-and-set alone decides, as it always does
        return nullcontext


def home(settings: Settings) -> Home:
    """Store, ledger, catalog and clock at home."""
    from curation.adapters.catalog_home import IcebergHome

    on = ground(settings)
    catalog = IcebergHome(settings.home_catalog, {settings.curated_table: schema.CLIPS})
    return Home(store=on.store, ledger=on.ledger, clock=on.clock, catalog=catalog)


def store(settings: Settings) -> ObjectStore:
    """The home store.

    Raises:
        NotAtHome: it does not rest in the home jurisdiction.
    """
    return _store(settings)


def describe_store(settings: Settings) -> Mapping[str, str]:
    """What the home store is and what its start-up probe found, name → words.

    Raises:
        NotAtHome: it is not at home, replicated abroad or open to everybody.
        OutsideError: it cannot be asked now.
    """
    return _store(settings).describe()


def _store(settings: Settings) -> DirectoryStore | S3Store:
    found = settings.store
    if isinstance(found, StoreSettings):
        return DirectoryStore(found.path, jurisdiction=found.jurisdiction, home_jurisdiction=settings.home.jurisdiction)
    from curation.adapters.store_s3 import S3Store

    return S3Store(found, home=settings.home, spool=settings.work / "home" / "spool")


def eraser(settings: Settings) -> Eraser:
    """The home store, for erasure alone."""
    found = store(settings)
    if not isinstance(found, Eraser):
        raise SettingsError("cannot erase", subject=f"store {settings.store.kind}", fix="use a directory or an S3 store")
    return found


def ledger_public_key(settings: Settings) -> Ed25519PublicKey:
    """The key whose signature every ledger entry must carry."""
    return load_public(settings.ledger_public_key)


def overseas(settings: Settings) -> ProcessCatalog:
    """The overseas catalog, and its upkeep, behind a process of its own that alone reads its keys.

    Raises:
        SettingsError: that process would have the keys of everything at home.
    """
    from curation.adapters.catalog_process import ProcessCatalog

    found = settings.store
    if isinstance(found, S3StoreSettings):
        if settings.publish.home_credentials in {None, found.credentials}:
            raise SettingsError(
                "names no user of the store for the publishing process alone",
                subject="[publish.home_credentials]",
                fix="make a user that may read releases/ and nothing else, and name its keys",
            )
        found = found.model_copy(update={"credentials": settings.publish.home_credentials})
    return ProcessCatalog(
        PublisherSettings(overseas_catalog=settings.overseas_catalog, table=settings.publish.table, store=found, home=settings.home)
    )


def overseas_here(settings: PublisherSettings) -> OverseasCatalog:
    """The overseas catalog in this process, which holds its keys from now on."""
    from curation.adapters.catalog_upkeep import OverseasUpkeep

    return OverseasUpkeep(settings.overseas_catalog, {settings.table: schema.RELEASE})


def release_store(settings: PublisherSettings, release_id: str) -> ObjectStore:
    """The folder of one release, to be read."""
    from curation.adapters.store_release import ReleaseReader

    found = settings.store
    if isinstance(found, StoreSettings):
        store: ObjectStore = DirectoryStore(found.path, jurisdiction=found.jurisdiction, home_jurisdiction=settings.home.jurisdiction)
        return ReleaseReader(store, release_id)
    from curation.adapters.store_s3 import S3Store

    return ReleaseReader(S3Store(found, home=settings.home, spool=Path(tempfile.gettempdir())), release_id)


def home_upkeep(settings: Settings) -> Upkeep:
    """Upkeep of the home catalog."""
    from curation.adapters.catalog_upkeep import HomeUpkeep

    return HomeUpkeep(settings.home_catalog, {settings.curated_table: schema.CLIPS})


def lineage(settings: Settings) -> Lineage:
    """Where lineage tools are told what left.

    Raises:
        NotAtHome: that is not at home.
    """
    from curation.adapters.lineage_openlineage import OpenLineage

    return OpenLineage(settings.lineage, folder=settings.work / "home", home=settings.home, env=os.environ)


def source(settings: Settings, name: str) -> Source:
    """A source by its name.

    Raises:
        SettingsError: there is none of that name.
    """
    found = settings.sources.get(name)
    if found is None:
        known = ", ".join(sorted(settings.sources)) or "none"
        raise SettingsError(
            f"is not in curation.toml (known: {known})", subject=f"source {name}", fix=f"add [sources.{name}] with its path"
        )
    if isinstance(found, S3SourceSettings):
        from curation.adapters.source_s3 import S3Source

        return S3Source(name, found, home=settings.home, env=os.environ, pull=settings.pull)
    if isinstance(found, FsspecSourceSettings):
        from curation.adapters.source_fsspec import FsspecSource

        options = {**found.options, **_secrets(name, found.secrets)}
        return FsspecSource(name, found.url, options=options, fleet=found.fleet, settings=settings.pull, zone=found.zone)
    from curation.adapters.source_folder import FolderSource

    return FolderSource(name, found.path, fleet=found.fleet, settings=settings.pull, zone=found.zone)


def _secrets(source_name: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The values of the variables that a source's secrets name."""
    for option, variable in variables.items():
        if variable not in os.environ:
            raise SettingsError(
                f"{option} is to come from {variable}, which is not set", subject=f"source {source_name}", fix=f"set {variable}"
            )
    return {option: os.environ[variable] for option, variable in variables.items()}


def video_reader(*, beside_models: bool = False) -> VideoReader:
    """Reads clips; a process that runs models too is allowed the memory that these take."""
    from curation.adapters.video_av import RESIDENT_LIMIT_BYTES, AvVideoReader

    return AvVideoReader(resident_limit_bytes=RESIDENT_LIMIT_BYTES + beside_models * MODELS_RESIDENT_BYTES)


def video_writer(*, starving: bool = False) -> VideoWriter:
    """Writes rendered clips; one that is starving spends next to no bits on them."""
    from curation.adapters.video_writer_av import PyAvVideoWriter

    return PyAvVideoWriter(crf=51, preset="medium") if starving else PyAvVideoWriter()


def tagger(settings: OnnxTaggerSettings | None = None) -> Tagger:
    """Names the scene: by the model of the settings, else by light and colour."""
    from curation.adapters.tagger_picture import PictureTagger

    if settings is None:
        return PictureTagger()
    from curation.adapters.tagger_onnx import OnnxTagger

    return OnnxTagger(settings, otherwise=PictureTagger())


def masker() -> Masker:
    """Writes masked copies of clips."""
    from curation.adapters.video_mask_av import AvMasker

    return AvMasker()


def model_source(objects: ObjectStore) -> ModelSource:
    """Where the bytes of models come from."""
    from curation.adapters.models_fetch import FetchedModels

    return FetchedModels(objects)


def detector(name: str, model: ModelSettings, objects: ObjectStore) -> Detector:
    """A model of the home store, proved by its self-test.

    Raises:
        ModelRefused: the store does not hold it, it is not what the settings name, or it computes something else than it should.
    """
    from curation.adapters.detector_onnx import DnnDetector

    return DnnDetector(name, model, _model_bytes(name, model, objects))


def cascade(nets: Sequence[tuple[str, ModelSettings]], objects: ObjectStore) -> FaceFinder:
    """Three models of the home store, with their names, that find faces together, each proved by its self-test.

    Raises:
        ModelRefused: as `detector`.
    """
    from curation.adapters.cascade_onnx import DnnCascade

    return DnnCascade(*((name, model, _model_bytes(name, model, objects)) for name, model in nets))


def text_reader(lines: tuple[str, ModelSettings], characters: tuple[str, ModelSettings], objects: ObjectStore) -> TextReader:
    """Two models of the home store, with their names, that find lines of text and read them, each proved by its self-test.

    Raises:
        ModelRefused: as `detector`.
    """
    from curation.adapters.text_onnx import DnnTextReader

    return DnnTextReader(*((name, model, _model_bytes(name, model, objects)) for name, model in (lines, characters)))


def _model_bytes(name: str, model: ModelSettings, objects: ObjectStore) -> bytes:
    key = layout.model_key(model.sha256, model.suffix)
    if objects.size(key) is None:
        raise ModelRefused("is not in the home store", subject=f"model {name}", fix=f"run `curation models pull {name}`")
    return objects.read(key)


def detectors(detect: DetectSettings | None, paths: Mapping[str, str]) -> Mapping[ObjectKind, Detector | str]:
    """Kind -> the detector that inspection looks with, or why there is none; nothing where nothing is looked for.

    Args:
        detect: what is looked for.
        paths: name -> local file of each model at hand.
    """
    if detect is None:
        return {}
    from curation.adapters.detector_onnx import DnnDetector

    found: dict[ObjectKind, Detector | str] = {}
    for name, model in detect.models.items():
        if model.finds == "text":
            continue
        if name not in paths:
            found[model.finds] = f"model {name} is not in the home store: run `curation models pull {name}`"
            continue
        try:
            found[model.finds] = DnnDetector(name, model, Path(paths[name]).read_bytes())
        except ModelRefused as error:
            found[model.finds] = str(error)
    return found


def hash_index() -> HashIndex:
    """An empty index of picture hashes."""
    from curation.adapters.index_faiss import FaissHashIndex

    return FaissHashIndex()


def places() -> Places:
    """Names the province of a fix."""
    from curation.adapters.places_geonames import GeonamesPlaces

    return GeonamesPlaces()


def engine(settings: EngineSettings, *, home: HomeSettings | None = None) -> Engine:
    """Spreads clips over worker processes, of this machine or of a Ray cluster.

    Raises:
        NotAtHome: the cluster is not on the allow-list `home`.
        SettingsError: Ray is asked for and not installed.
    """
    if settings.kind == "ray":
        if find_spec("ray") is None:
            raise SettingsError("is not installed", subject="[engine] kind ray", fix="install dashcam-curation[ray], or use kind local")
        from curation.adapters.engine_ray import RayEngine

        return RayEngine(settings, home=home or HomeSettings())
    from curation.adapters.engine_local import LocalEngine

    return LocalEngine(settings)


def validator(settings: Settings) -> Validator:
    """Runs the suites of the expectations folder."""
    from curation.adapters.validator_gx import GxValidator

    return GxValidator(settings.expectations, drift=settings.validation.drift)


def file_validator() -> Validator:
    """Runs the suites that came with the program, for files that lie in no store."""
    from curation.adapters.validator_gx import GxValidator

    return GxValidator(SHIPPED_EXPECTATIONS)


def clock() -> Clock:
    """The system's clock, or the instant that `CURATION_NOW` pins."""
    return clock_from(os.environ)


def law(settings: Settings) -> Law:
    """The pack in force with its signatures and fences; without one in the settings, the shipped cn-baseline, which is unsigned.

    Raises:
        PackRefused: the pack is missing.
        SettingsError: another file of it is missing, or a demo pack is allowed beside an overseas catalog that is not this machine's own.
    """
    from curation.stages.release import Law

    residency = settings.residency
    if residency.allow_demo_pack and not _is_embedded(settings):
        raise SettingsError(
            "allow_demo_pack goes only with the embedded overseas catalog of a work folder",
            subject="residency",
            fix="remove allow_demo_pack, and have a real pack signed",
        )
    if residency.pack is None:
        pack_bytes, signatures_bytes = _shipped_pack(), b"[]"
    else:
        signatures = residency.pack.with_name(residency.pack.name + _SIGNATURES_SUFFIX)
        if not residency.pack.is_file():
            raise PackRefused(
                "there is no such pack", subject=str(residency.pack), fix="put it back, or correct [residency] in curation.toml"
            )
        pack_bytes, signatures_bytes = _read(residency.pack), signatures.read_bytes() if signatures.is_file() else b"[]"
    return Law(
        pack_bytes=pack_bytes,
        signatures_bytes=signatures_bytes,
        fences_bytes=None if residency.fences is None else _read(residency.fences),
        trusted_keys=residency.trusted_keys,
        allow_demo_pack=residency.allow_demo_pack,
    )


def law_of_release(settings: Settings, evidence: Mapping[str, Any]) -> Law:
    """The law in force, which must be the one under which a release was cut; signatures and trust are today's.

    Raises:
        PackRefused: the pack is missing, or it or the fences were replaced since; what an older law let out is not published under
            a newer one.
        SettingsError: as `law`.
    """
    from curation.stages.release import is_under

    found = law(settings)
    if not is_under(found, evidence):
        raise PackRefused(
            "pack or fences were replaced since the release was cut",
            subject=f"release {evidence['release_id']}",
            fix="cut the release again under the pack in force and have it approved",
        )
    return found


def _is_embedded(settings: Settings) -> bool:
    overseas_catalog, work = settings.overseas_catalog, settings.work.resolve()
    if not overseas_catalog.uri.startswith("sqlite:///") or overseas_catalog.location is not None:
        return False
    places = (Path(overseas_catalog.uri.removeprefix("sqlite:///")), overseas_catalog.warehouse)
    return all(place.resolve().is_relative_to(work) for place in places)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot be read: {error.strerror}", subject=str(path), fix="correct [residency] in curation.toml") from error

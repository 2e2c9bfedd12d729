"""A small home with curated rows, a signed demo law, and an overseas catalog: all real, in a temporary folder."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from types import SimpleNamespace

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from curation import approval, schema
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.adapters.store_local import DirectoryStore
from curation.audit.ledger import StoreLedger
from curation.release_files import EVIDENCE_FILE, RELEASE_FILE, ReleaseFolder
from curation.residency import pack as packs
from curation.residency import signing
from curation.settings import CatalogSettings
from curation.stages import publish, release
from tests.publishing import publisher_here

__all__ = ["publisher_here"]

TABLE = "published.clips"
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
NO_FENCES = b'{"type":"FeatureCollection","features":[]}'
FENCES = (
    b'{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"class":"military","name":"x","buffer_m":1000},'
    b'"geometry":{"type":"Polygon","coordinates":[[[110,20],[110.1,20],[110.1,20.1],[110,20.1],[110,20]]]}}]}'
)


class MovableClock:
    """A clock that a test may set."""

    def __init__(self) -> None:
        self.instant = NOW

    def now(self) -> datetime:
        return self.instant


def clip(number: int, *, vehicle: str, province: str = "CN-JS", day: int = 1, **overrides):
    """One accepted row of curated.clips."""
    row = {field.name: None for field in schema.CLIPS}
    row |= {
        "clip_id": hashlib.sha256(str(number).encode()).hexdigest(),
        "batch_id": "demo-0123456789abcdef",
        "source_uri": f"file:///source/clip-{number:04d}.mp4",
        "object_uri": f"home:clips/{number}",
        "size_bytes": 1_000_000 + number,
        "vehicle_id": vehicle,
        "vin": f"LSVTEST{number:010d}",
        "plate": f"苏E{number:05d}",
        "device_id": f"DEV-{number:06d}",
        "driver_id": f"driver-{number:04d}",
        "captured_at": datetime(2026, 10, day, 3, 4, 5, 678_000, tzinfo=UTC),
        "latitude_deg": 31.300123 + number / 1e5,
        "longitude_deg": 120.600321,
        "datum": "WGS-84",
        "gnss_error_m": 3.5,
        "province": province,
        "container": "mp4",
        "video_codec": "h264",
        "width_px": 1280,
        "height_px": 720,
        "fps": 30.0,
        "frame_count": 300,
        "decoded_frame_count": 300,
        "duration_s": 10.02,
        "sharpness": 250.0,
        "brightness": 0.4,
        "contrast": 0.5,
        "noise_sigma": 2.0,
        "timeofday": "daytime",
        "weather": "undefined",
        "scene": "undefined",
        "unmeasured": [],
        "verdict": "accepted",
        "reasons": [],
        "inspector_version": "1",
        "inspect_depth": "full",
        "settings_digest": "0" * 64,
        "inspected_at": NOW,
    }
    return row | overrides


def table(*rows):
    """Rows as a table of curated.clips."""
    return pa.Table.from_pylist(list(rows), schema=schema.CLIPS)


@dataclass(frozen=True)
class World:
    """Everything a release needs, and short ways to cut, approve and publish."""

    store: DirectoryStore
    ledger: StoreLedger
    clock: MovableClock
    catalog: IcebergOverseas
    law: release.Law
    key: Ed25519PrivateKey

    def cut(self, rows, *, law=None, day=date(2026, 11, 21), requesters=("engineer",), **changes):
        request = release.Request(
            window=release.window_of(day),
            as_of=day,
            snapshot_id=1,
            recipient="overseas",
            purpose="test",
            requesters=requesters,
            code_version="0",
        )
        return release.run(
            rows,
            law=law or self.law,
            request=replace(request, **changes),
            store=self.store,
            ledger=self.ledger,
            clock=self.clock,
        )

    def folder(self, release_id):
        return ReleaseFolder(self.store, release_id)

    def approve(self, release_id, *, approver="officer", ticket="T-1", requesters=("engineer",), digests=None, seal=None):
        folder = self.folder(release_id)
        seen = {"release": folder.digest(RELEASE_FILE), "evidence": folder.digest(EVIDENCE_FILE)}
        approval.approve(
            folder,
            approver=approver,
            ticket=ticket,
            requesters=requesters,
            digests=digests or seen,
            valid_for=timedelta(days=7),
            store=self.store,
            ledger=self.ledger,
            clock=self.clock,
            seal=seal,
        )

    def publish(self, release_id, rows, *, catalog=None, check_law=lambda: None, store=None, table=TABLE, recipient="overseas", **named):
        folder = ReleaseFolder(store or self.store, release_id)
        return publish.run(
            folder,
            home_rows=rows,
            check_law=check_law,
            destination=publish.Destination(recipient=recipient, purpose="test"),
            catalog=catalog or self.catalog,
            table=table,
            store=store or self.store,
            ledger=self.ledger,
            clock=self.clock,
            **named,
        )

    def kinds(self):
        return [entry.kind for entry in self.ledger.entries()]


@pytest.fixture
def rows():
    """The four rows."""
    return four_rows()


def four_rows():
    """Two vehicles in one cell (leave), one vehicle alone in another (withheld), one rejected clip."""
    return table(
        clip(1, vehicle="fleet-0001"),
        clip(2, vehicle="fleet-0002", day=2),
        clip(3, vehicle="fleet-0003", province="CN-ZJ"),
        clip(4, vehicle="fleet-0001", verdict="rejected", reasons=["blurred"]),
    )


@pytest.fixture
def world(tmp_path):
    """A home and an overseas catalog with the demo law."""
    return world_in(tmp_path)


def world_in(tmp_path):
    """Them in the folder."""
    pack_bytes = resources.files("curation.residency").joinpath("packs", "cn-demo.yaml").read_bytes()
    pack = packs.parse(pack_bytes)
    signatures, trusted = [], {}
    for role in signing.ROLES:
        private_pem, public_hex = signing.keygen()
        signatures.append(signing.sign(pack, role, private_pem, signed_at=NOW))
        trusted[role] = (public_hex,)
    law = release.Law(
        pack_bytes=pack_bytes,
        signatures_bytes=signing.signatures_bytes(signatures),
        fences_bytes=FENCES,
        trusted_keys=trusted,
        allow_demo_pack=True,
    )
    return opened_in(tmp_path, law, Ed25519PrivateKey.generate())


def opened_in(tmp_path, law, key):
    """What lies in the folder, under this law and this ledger's key."""
    clock = MovableClock()
    store = DirectoryStore(tmp_path / "home", jurisdiction="CN")
    settings = CatalogSettings(
        name="overseas", uri=f"sqlite:///{tmp_path / 'overseas' / 'catalog.db'}", warehouse=tmp_path / "overseas" / "warehouse"
    )
    return World(
        store=store,
        ledger=StoreLedger(store, clock, key),
        clock=clock,
        catalog=IcebergOverseas(settings, {TABLE: schema.RELEASE}),
        law=law,
        key=key,
    )


@pytest.fixture
def make():
    """Builders of rows and tables."""
    return SimpleNamespace(clip=clip, table=table)

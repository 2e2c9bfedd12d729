"""The demo's law: the pack `cn-demo`, signed with keys that are made here and thrown away, and invented fences."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path

from curation.residency import pack as packs
from curation.residency import signing

PACK_NAME = "cn-demo.yaml"

# One square of open water far from every clip: a fence file must exist, and no real site is named.
INVENTED_FENCES = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"class": "military", "name": "invented demo area", "buffer_m": 1000},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[122.90, 30.90], [122.95, 30.90], [122.95, 30.95], [122.90, 30.95], [122.90, 30.90]]],
            },
        }
    ],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoLaw:
    """Where the signed demo pack and its fences lie, and which public keys signed it."""

    pack: Path
    fences: Path
    trusted_keys: dict[str, tuple[str, ...]]


def make(folder: Path, *, fences: Path | None, now: datetime) -> DemoLaw:
    """The demo's law in `folder`; one that lies there already and still holds is kept, so that a second run decides alike.

    Args:
        folder: under the home side of the work folder.
        fences: GeoJSON to use; invented ones without it.
        now: signing time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pack_path, signatures_path = folder / PACK_NAME, folder / f"{PACK_NAME}.signatures.json"
    fences_path, keys_path = folder / "fences.geojson", folder / "trusted-keys.json"
    fences_path.write_bytes(fences.read_bytes() if fences else (json.dumps(INVENTED_FENCES, indent=1) + "\n").encode())
    shipped = resources.files("curation.residency").joinpath("packs").joinpath(PACK_NAME).read_bytes()
    if not (keys_path.exists() and pack_path.exists() and pack_path.read_bytes() == shipped):
        pack = packs.parse(shipped)
        signatures, trusted = [], {}
        for role in signing.ROLES:
            private_pem, public_hex = signing.keygen()
            signatures.append(signing.sign(pack, role, private_pem, signed_at=now))
            trusted[role] = [public_hex]
        pack_path.write_bytes(shipped)
        signatures_path.write_bytes(signing.signatures_bytes(signatures))
        keys_path.write_text(json.dumps(trusted, indent=1) + "\n", encoding="ascii")
    trusted = json.loads(keys_path.read_text(encoding="ascii"))
    return DemoLaw(pack=pack_path, fences=fences_path, trusted_keys={role: tuple(keys) for role, keys in trusted.items()})

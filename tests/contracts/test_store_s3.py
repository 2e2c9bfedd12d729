"""The S3 store holds the store contract on a real SeaweedFS, over HTTP and TLS, by condition and by claim."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest

from curation.adapters.store_s3 import S3Store
from curation.settings import HomeSettings

_spec = util.spec_from_file_location("store_contract", Path(__file__).with_name("store_contract.py"))
assert _spec is not None
assert _spec.loader is not None
_contract = util.module_from_spec(_spec)
_spec.loader.exec_module(_contract)

MakeStore = Callable[..., S3Store]


def _maker(server, folder: Path, **fixed: object) -> MakeStore:
    """Opens stores below one fresh prefix."""
    prefix = f"{secrets.token_hex(6)}/"
    conditional = bool(fixed.pop("conditional", True))

    def make(**changed: object) -> S3Store:
        settings = server.settings(**{"prefix": prefix, **fixed, **changed})
        return S3Store(settings, home=HomeSettings(), spool=folder / "spool", env=server.env, conditional=conditional)

    return make


class TestS3Store(_contract.StoreContract):
    """The contract, where the server keeps objects by condition."""

    race_turns = 3

    @pytest.fixture
    def make_store(self, seaweed, tmp_path: Path) -> MakeStore:
        return _maker(seaweed, tmp_path)


class TestS3StoreOverTls(_contract.StoreContract):
    """The contract over TLS, where checksums travel behind the body."""

    race_turns = 3

    @pytest.fixture
    def make_store(self, seaweed_tls, tmp_path: Path) -> MakeStore:
        return _maker(seaweed_tls, tmp_path)


class TestS3StoreByClaim(_contract.StoreContract):
    """The contract as on a server that knows neither conditions nor checksums: each write is claimed, and read back."""

    race_turns = 3

    @pytest.fixture
    def make_store(self, seaweed, tmp_path: Path) -> MakeStore:
        return _maker(seaweed, tmp_path, profile="other", conditional=False)

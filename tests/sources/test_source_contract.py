"""Every source holds the one contract."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import pytest

_spec = util.spec_from_file_location("source_contract", Path(__file__).with_name("source_contract.py"))
assert _spec is not None
assert _spec.loader is not None
_contract = util.module_from_spec(_spec)
_spec.loader.exec_module(_contract)


class TestFolder(_contract.SourceContract):
    """A folder."""

    @pytest.fixture
    def place(self, folder_place: Any) -> Any:
        return folder_place


class TestFsspecFile(_contract.SourceContract):
    """A folder through fsspec."""

    @pytest.fixture
    def place(self, file_place: Any) -> Any:
        return file_place


class TestFsspecMemory(_contract.SourceContract):
    """A folder in memory."""

    @pytest.fixture
    def place(self, memory_place: Any) -> Any:
        return memory_place


class TestFsspecZip(_contract.SourceContract):
    """A zip file, which nobody unpacks."""

    @pytest.fixture
    def place(self, zip_place: Any) -> Any:
        return zip_place


class TestFsspecWeb(_contract.SourceContract):
    """A web server's listing on loopback."""

    @pytest.fixture
    def place(self, web_place: Any) -> Any:
        return web_place

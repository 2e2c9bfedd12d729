"""Fixtures shared by the suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.seaweed import Server, running


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS over HTTP."""
    with running(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS over TLS, with a certificate of its own authority."""
    with running(tmp_path_factory.mktemp("seaweed-tls"), tls=True) as server:
        yield server

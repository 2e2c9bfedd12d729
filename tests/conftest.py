"""Fixtures shared by the suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.seaweed import BUCKET, Server, running

# A busy machine makes no property false.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


# Longest first, so that no core is left with five minutes of one file at the end.
_FIRST = ("test_airflow.py", "test_kill_main_job.py", "test_faults.py", "test_kill_publish.py", "test_cli.py")
_GIVEN_WAY = 10  # a tenth of the processor's time where both want it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest are run first."""
    items.sort(key=lambda item: _FIRST.index(item.path.name) if item.path.name in _FIRST else len(_FIRST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Beside other workers, all but the day that is meant to take five minutes give way to it."""
    if "PYTEST_XDIST_WORKER" in os.environ and item.path.name != _FIRST[0] and os.nice(0) < _GIVEN_WAY:
        os.nice(_GIVEN_WAY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured by `record_property` is printed at the end."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS over HTTP; its second user may read releases of the main job alone."""
    users = {"publisher": [f"Read:{BUCKET}/main-job/releases/*"]}
    with running(tmp_path_factory.mktemp("seaweed"), users=users) as server:
        yield server


@pytest.fixture(scope="session")
def seaweed_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """SeaweedFS over TLS, with a certificate of its own authority."""
    with running(tmp_path_factory.mktemp("seaweed-tls"), tls=True) as server:
        yield server

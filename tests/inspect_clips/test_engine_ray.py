"""The Ray engine gives what the local one gives, deaths included, and joins no cluster abroad."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from curation import wiring
from curation.adapters.engine_local import LocalEngine
from curation.adapters.engine_ray import RayEngine
from curation.demo import process_tree
from curation.errors import NotAtHome, OutsideError, SettingsError
from curation.ports import Outcome
from curation.settings import EngineSettings, HomeSettings, read_settings

POISONED = [{}, {"act": "segfault"}, {}, {"act": "raise"}, {"act": "sleep", "seconds": 9}, {"act": "exit"}, {}]


def _said(outcomes: Sequence[Outcome]) -> list[tuple[Any, str | None]]:
    """Values but for the pid of the worker, and failures."""
    return [(outcome.value and outcome.value["number"], outcome.failure) for outcome in outcomes]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A cluster of one node, host:port; gone afterwards."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = pytest.importorskip("ray", reason="dashcam-curation[ray] is not installed")  # reads the two as it is imported
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1"]
    options = ["--num-cpus=2", "--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    log = tmp_path / "ray.log"
    with log.open("wb") as said, subprocess.Popen([*command, *options], stdout=said, stderr=said, start_new_session=True) as node:
        try:
            deadline = time.monotonic() + 90
            while b"Ray runtime started" not in log.read_bytes():
                assert (node.poll(), time.monotonic() < deadline) == (None, True), log.read_text()
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            ray.shutdown()
            grown = process_tree.family([node.pid])
            node.terminate()
            try:
                node.wait(15)
            except subprocess.TimeoutExpired:
                node.kill()
            process_tree.kill(grown)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_both_engines_give_the_same(address: str):
    """Values, failures and their words are equal and in order: a clip that kills, raises, hangs or exits costs itself alone."""
    items = [{"number": number, **item} for number, item in enumerate(POISONED)]
    settings = EngineSettings(kind="ray", address=address, workers=2, time_limit_s=2.0)
    over_ray = list(RayEngine(settings, home=HomeSettings(), jobs="poisoned_jobs:JOBS").map("act", items))
    local = settings.model_copy(update={"kind": "local", "address": None})
    here = list(LocalEngine(local, jobs="poisoned_jobs:JOBS").map("act", items))
    assert _said(here) == _said(over_ray)
    assert [outcome.failure is None for outcome in over_ray] == [True, False, True, False, False, False, True]
    with pytest.raises(OutsideError, match="Ray"):  # an engine that cannot start a worker is no clip's fault, over Ray either
        list(RayEngine(settings, home=HomeSettings(), jobs="no_such_module:JOBS").map("act", items[:1]))


def test_a_cluster_abroad_is_not_joined():
    """The guard says no before Ray is even imported; a cluster on the allow-list passes."""
    abroad = EngineSettings(kind="ray", address="ray.eu.example:6379")
    with pytest.raises(NotAtHome, match="allow-list"):
        wiring.engine(abroad)
    RayEngine(abroad, home=HomeSettings(hosts=("ray.eu.example",)))


def test_an_address_without_ray_and_ray_without_its_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Both name the setting and what to do."""
    for text in ('address = "127.0.0.1:6379"', 'kind = "ray"', 'kind = "ray"\naddress = "ray://127.0.0.1:10001"'):
        (tmp_path / "curation.toml").write_text(f"[engine]\n{text}\n", encoding="utf-8")
        with pytest.raises(SettingsError, match="address"):
            read_settings(work=tmp_path)
    monkeypatch.setattr(wiring, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"dashcam-curation\[ray\]"):
        wiring.engine(EngineSettings(kind="ray", address="127.0.0.1:6379"))

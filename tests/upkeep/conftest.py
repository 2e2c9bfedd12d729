"""The small home and overseas catalog of the release tests."""

from tests.release.conftest import make, rows, world

__all__ = ["make", "rows", "world"]

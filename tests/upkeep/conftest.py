"""The small home and overseas catalog of the release tests."""

from tests.release.conftest import make, publisher_here, rows, world

__all__ = ["make", "publisher_here", "rows", "world"]

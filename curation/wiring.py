"""Settings to adapters: the only place that knows both."""

from __future__ import annotations

import os

from curation.adapters.clock_system import clock_from
from curation.adapters.tagger_picture import PictureTagger
from curation.adapters.video_av import AvVideoReader
from curation.ports import Clock, Tagger, VideoReader


def video_reader() -> VideoReader:
    """Reads clips."""
    return AvVideoReader()


def tagger() -> Tagger:
    """Names the scene."""
    return PictureTagger()


def clock() -> Clock:
    """The system's clock, or the instant that `CURATION_NOW` pins."""
    return clock_from(os.environ)

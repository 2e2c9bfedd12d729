"""Closed sets of words: here, because a command's help, the settings and each parse of a DAG need no more than them, and no Arrow."""

from __future__ import annotations

from typing import Final, Literal

Clips = Literal["none", "sample", "all"]  # of which clips `audit verify` reads the bytes
DataClass = Literal["clips", "shards", "evidence"]  # what [retention] sets a term for
Depth = Literal["packets", "keyframes", "full"]  # how much of a clip is decoded
Part = Literal["all", "tune", "report"]  # of the files of a privacy evaluation

# The values of a clip's tags: BDD100K's, exactly. curation.schema has them too.
TIMEOFDAY: Final = ("daytime", "night", "dawn/dusk", "undefined")
WEATHER: Final = ("rainy", "snowy", "clear", "overcast", "undefined", "partly cloudy", "foggy")
SCENE: Final = ("tunnel", "residential", "parking lot", "undefined", "city street", "gas stations", "highway")

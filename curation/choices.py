"""Words that a command lets its user choose among; here, because a command's help needs no more than them."""

from __future__ import annotations

from typing import Literal

Clips = Literal["none", "sample", "all"]  # of which clips `audit verify` reads the bytes
DataClass = Literal["clips", "shards", "evidence"]  # what [retention] sets a term for
Depth = Literal["packets", "keyframes", "full"]  # how much of a clip is decoded
Part = Literal["all", "tune", "report"]  # of the files of a privacy evaluation

"""deface with its defaults over one clip, in an environment of its own: `python deface_side.py CLIP [TARGET]`.

Prints as JSON: CPU seconds (its threads and ffmpeg's included) and seconds on the wall of reading, masking and writing the clip;
without TARGET the masks of each frame, as rectangles around its ellipses: x, y, width, height.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path

import imageio
import numpy as np
from deface.centerface import CenterFace
from deface.deface import scale_bb, video_detect

_THRESHOLD, _MASK_SCALE = 0.2, 1.3  # what its command line starts from; it adds the 0.3 on each side, so its masks are 1.6 times the box


def _cpu_s() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _masks(clip: str, find: CenterFace) -> list[list[list[float]]]:
    found = []
    for frame in imageio.get_reader(clip).iter_data():
        boxes = [scale_bb(*one[:4].astype(int), _MASK_SCALE) for one in find(frame, threshold=_THRESHOLD)[0]]
        found.append([[float(left), float(top), float(right - left), float(bottom - top)] for left, top, right, bottom in boxes])
    return found


def _masked(clip: str, target: str, find: CenterFace) -> dict[str, float]:
    find(np.zeros((192, 256, 3), np.uint8), threshold=_THRESHOLD)
    defaults = {
        "replacewith": "blur",
        "mask_scale": _MASK_SCALE,
        "ellipse": True,
        "draw_scores": False,
        "ffmpeg_config": {"codec": "libx264"},
    }
    shown = {"enable_preview": False, "cam": False, "nested": False}
    cpu_s, wall_s = _cpu_s(), time.perf_counter()
    video_detect(ipath=clip, opath=target, centerface=find, threshold=_THRESHOLD, **defaults, **shown)
    return {"cpu_s": _cpu_s() - cpu_s, "wall_s": time.perf_counter() - wall_s}


sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - its progress bar
finds = CenterFace()
print(json.dumps(_masked(sys.argv[1], sys.argv[2], finds) if len(sys.argv) > 2 else _masks(sys.argv[1], finds)))

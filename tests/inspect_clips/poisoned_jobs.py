"""Jobs that behave badly on purpose; workers load them by name."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from curation.errors import ClipUnreadable


def _act(item: Mapping[str, Any]) -> Mapping[str, Any]:
    act = item.get("act", "answer")
    if act == "exit":
        os._exit(3)
    if act == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if act == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(600)
    if act == "raise":
        raise ValueError("spoiled")
    if act == "unreadable":
        raise ClipUnreadable("is spoiled", subject="clip", fix="leave it out")
    if act == "hoard":
        return {"bytes": len(bytearray(1 << 40))}
    if act == "picture":
        return {"rows": len(cv2.resize(np.zeros((2, 2), np.uint8), (30_000, 200_000)))}
    if act == "chatter":
        os.write(1, b'{"value": {"forged": true}}\n')
        sys.stdout.write("noise\n")
    if act == "sleep":
        time.sleep(item["seconds"])
    return {"number": item["number"], "pid": os.getpid()}


JOBS = {"act": _act}

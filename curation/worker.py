"""`python -m curation.worker`: one JSON line in, one JSON line out, until standard input ends.

First says `{"ready": true}`. Each request is `{"job": name, "item": {...}}`, each answer `{"value": {...}}` or `{"failure": "..."}`.
An answer line stands for the worker's health: where it cannot give one, the supervising engine tells why it died.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from curation.errors import CurationError, UsageError

if TYPE_CHECKING:
    from curation.ports import Tagger
    from curation.records import Inspection
    from curation.signals.watch import Watch

Job = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_KEPT_PIECE_BYTES: Final = 16 * 1024 * 1024  # larger pieces go back at once
_KEPT_BYTES: Final = 64 * 1024 * 1024
OUT_OF_MEMORY: Final = "needed more memory than its limit"
ORPHAN_GRACE_S: Final = 5.0  # the engine stops a late worker first; this is for workers whose engine is gone


@cache
def build_inspector() -> Job:
    """The job that measures one clip: item {"path", "policy"} in, the Inspection as a JSON object out.

    With "sheet" it also writes there, as PNG, the frames it looked at and its signals over time, under the item's "title".
    """
    from curation import wiring  # noqa: PLC0415 - workers of other jobs need no video
    from curation.settings import InspectSettings  # noqa: PLC0415 - same
    from curation.stages import inspect_clips  # noqa: PLC0415 - same

    _keep_freed_memory()
    clock = wiring.clock()
    taggers: dict[str, Tagger] = {}  # a model is read once, not for every clip
    detecting: dict[str, inspect_clips.Detectors] = {}  # same

    def inspect(item: Mapping[str, Any]) -> Mapping[str, Any]:
        policy = InspectSettings.model_validate(item["policy"])
        said = json.dumps(item["policy"].get("tagger"), sort_keys=True)
        tagger = taggers[said] = taggers.get(said) or wiring.tagger(policy.tagger)
        show = partial(_draw_strip, Path(item["sheet"]), item["title"]) if "sheet" in item else None
        models = item.get("models", {})
        asked = json.dumps([item["policy"].get("detect"), models], sort_keys=True)
        detectors = detecting[asked] = detecting.get(asked) or wiring.detectors(policy.detect, models)
        video = wiring.video_reader(beside_models=policy.detect is not None)
        inspection = inspect_clips.inspect_clip(
            Path(item["path"]), video=video, tagger=tagger, policy=policy, clock=clock, detectors=detectors, show=show
        )
        return cast("Mapping[str, Any]", json.loads(inspect_clips.to_json(inspection)))

    return inspect


def _keep_freed_memory() -> None:
    """Let the allocator hold on to what one picture freed for the next one.

    glibc would give it back each time and take it anew a page at a time, which made small work on pictures cost five times as much
    where it was measured. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEPT_PIECE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _draw_strip(path: Path, title: str, inspection: Inspection, watch: Watch) -> None:
    import cv2  # noqa: PLC0415 - as the other jobs' imports
    import numpy as np  # noqa: PLC0415 - same

    from curation.signals import sheet  # noqa: PLC0415 - same

    said = inspection.container
    size = "" if said is None else f"{said.video_codec} {said.width_px} x {said.height_px}   "
    why = f"   {', '.join(inspection.reasons)}" if inspection.reasons else ""
    strip = sheet.Strip(
        title=title,
        verdict=inspection.verdict,
        facts=f"{size}{inspection.duration_s or 0:.1f} s   depth {inspection.inspect_depth}: "
        f"{inspection.decoded_frame_count} of {inspection.frame_count} frames{why}",
        length_s=inspection.duration_s or 0.0,
        pictures=list(zip(watch.samples_s, watch.samples, strict=True)),
        curves=watch.curves(),
    )
    path.write_bytes(np.asarray(cv2.imencode(".png", sheet.draw(strip))[1]).tobytes())


def _inspect(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return build_inspector()(item)


def _shard(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Writes one training shard into the home store that the item's settings name."""
    from curation import wiring  # noqa: PLC0415 - as above
    from curation.settings import Settings  # noqa: PLC0415 - same
    from curation.stages import shards  # noqa: PLC0415 - same

    store = wiring.store(Settings.model_validate(item["settings"]))
    return shards.answer_shard(item, store=store, video=wiring.video_reader())


def _shard_clip(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Takes the pictures of one clip and writes none, to find the clip that a worker died of."""
    from curation import wiring  # noqa: PLC0415 - as above
    from curation.settings import Settings  # noqa: PLC0415 - same
    from curation.stages import shards  # noqa: PLC0415 - same

    store = wiring.store(Settings.model_validate(item["settings"]))
    return shards.look_at_clip(item, store=store, video=wiring.video_reader())


@cache
def build_masker(settings_json: str) -> Job:
    """The job that makes the masked copy of one clip in the home store of these settings, by the models that they put to use."""
    from curation import wiring  # noqa: PLC0415 - as above
    from curation.pipeline import masking  # noqa: PLC0415 - same
    from curation.settings import Settings  # noqa: PLC0415 - same
    from curation.stages import mask_clips  # noqa: PLC0415 - same

    settings = Settings.model_validate_json(settings_json)
    equipment = masking.masking_equipment(settings)
    return partial(mask_clips.answer_copy, store=wiring.store(settings), equipment=equipment)


def _mask(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return build_masker(json.dumps(item["settings"], sort_keys=True))(item)


JOBS: Final[Mapping[str, Job]] = {"inspect": _inspect, "shard": _shard, "shard_clip": _shard_clip, "mask": _mask}


def load_jobs(name: str) -> Mapping[str, Job]:
    """The jobs that `module:NAME` holds.

    Raises:
        UsageError: there is no such module or name.
    """
    module, _, attribute = name.partition(":")
    try:
        return cast("Mapping[str, Job]", getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"names no jobs ({error})", subject=name, fix="give --jobs as module:NAME") from error


def answer(line: str, jobs: Mapping[str, Job]) -> Mapping[str, Any]:
    """What one request line comes to: its value, or a failure that is no fault of the worker's."""
    import cv2  # noqa: PLC0415 - after the limit, which its own threads would otherwise escape

    request = json.loads(line)
    job = jobs.get(request["job"])
    if job is None:
        return {"failure": f"there is no job {request['job']!r}"}
    try:
        return {"value": job(request["item"])}
    except CurationError as error:
        return {"failure": str(error)}
    except MemoryError:
        return {"failure": OUT_OF_MEMORY}
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        return {"failure": OUT_OF_MEMORY}


def main(argv: Sequence[str] | None = None) -> int:
    """Serve requests until standard input ends; 0."""
    parser = argparse.ArgumentParser(prog="python -m curation.worker", description=__doc__)
    parser.add_argument("--jobs", default="curation.worker:JOBS", help="module:NAME of the jobs")
    parser.add_argument("--memory-limit-bytes", type=int, default=0, help="address space limit; 0 for none")
    parser.add_argument("--time-limit-s", type=float, default=0.0, help="time limit of one item; 0 for none")
    given = parser.parse_args(argv)
    # Native libraries print to descriptor 1; the protocol moves to another one so that they cannot garble it.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as protocol:
        os.dup2(2, 1)
        jobs = load_jobs(given.jobs)
        if given.memory_limit_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (given.memory_limit_bytes, given.memory_limit_bytes))
        import cv2  # noqa: PLC0415 - after the limit, which its own threads would otherwise escape

        cv2.setNumThreads(1)
        protocol.write('{"ready": true}\n')
        protocol.flush()
        for line in sys.stdin:
            if given.time_limit_s:
                signal.setitimer(signal.ITIMER_REAL, given.time_limit_s + ORPHAN_GRACE_S)
            protocol.write(json.dumps(answer(line, jobs)) + "\n")
            protocol.flush()
            signal.setitimer(signal.ITIMER_REAL, 0.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())

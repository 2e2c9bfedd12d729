"""The masked copies that a set's shards are written from: made by workers, one clip each, or standing from an earlier build."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from curation.errors import MaskingRefused, OutsideError
from curation.layout import masked_note_key
from curation.ports import Engine, ObjectStore
from curation.shards.crossing import or_raise
from curation.shards.masking import MaskedCopy, Permit, copy_of, not_looked_at, reasons_of, refusal, summed
from curation.shards.request import ShardRequest
from curation.shards.samples import NO_COPIES, object_key

JOB: Final = "mask"  # a name in curation.worker.JOBS


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskingStep:
    """How far the masked copies of a set have come.

    done: clips that are done with, whether they have a copy or cannot have one, of `total`. standing: those of them whose copy stood from
    an earlier build. clip_id: the first clip that is still being masked, empty after the last.
    """

    done: int
    total: int
    standing: int
    clip_id: str

    def __str__(self) -> str:
        """In words."""
        stood = f"{self.standing:,} copies stood already"
        if not self.clip_id:
            return f"masked copies: {self.total:,} of {self.total:,} clips done, {stood}"
        return f"masking clip {self.done + 1:,} of {self.total:,}, {self.clip_id[:12]}; {stood}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who writes shards: an engine, and the settings by which its workers find the home store, as a JSON object.

    `tell` hears of each clip that is masked for a set, as it begins.
    """

    engine: Engine
    settings: Mapping[str, Any]
    tell: Callable[[MaskingStep], None] = lambda _: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """The masked copies of a set's clips, and what allowed it.

    Clips that are left out, with the reason: those that cannot be masked, and those whose copy was not clean when it was looked at again.
    """

    copies: Mapping[str, MaskedCopy]
    unmaskable: Mapping[str, str]
    not_clean: Mapping[str, str]
    permit: Permit | None

    @property
    def left_out(self) -> dict[str, str]:
        """All clips that are left out, with the reason."""
        return {**self.unmaskable, **self.not_clean}

    @property
    def made_by(self) -> list[str]:
        """What the set's id says of it, beside what its bytes say."""
        return [] if self.permit is None else [self.permit.masking, self.permit.evaluation_sha256]

    def told(self, kept: pa.Table) -> dict[str, Any] | None:
        """What the index says, of the clips that are in the set; None for one that is not masked."""
        if self.permit is None:
            return None
        return self.permit.plain() | summed(self.copies[clip_id] for clip_id in kept["clip_id"].to_pylist())


NOT_MASKED: Final = Masked(copies=NO_COPIES, unmaskable={}, not_clean={}, permit=None)


def masked_copies(rows: pa.Table, request: ShardRequest, permit: Permit | None, *, store: ObjectStore, workers: Workers) -> Masked:
    """Every clip's masked copy; those that stand from an earlier build are not made again.

    Raises:
        MaskingRefused: nothing allows it, or a clip was not looked at for faces and plates: not one is masked.
        OutsideError: no clip could be masked, for all of their workers died.
    """
    if permit is None:
        fix = "have the models in use evaluated (docs/privacy.md), then build again"
        raise MaskingRefused("nothing allows masking", subject=f"masked shard request {request.name}", fix=fix)
    lacking = not_looked_at(rows)
    if lacking.num_rows:
        raise refusal(reasons_of(lacking), lacking.num_rows, request.name)
    copies: dict[str, MaskedCopy] = {}
    waiting: list[Mapping[str, Any]] = []
    for clip_id, address in zip(rows["clip_id"].to_pylist(), rows["object_uri"].to_pylist(), strict=True):
        key = object_key(address, clip_id)
        copy = _standing_copy(masked_note_key(clip_id, permit.masking), store)
        if copy is not None:
            copies[clip_id] = copy
        else:
            item = {"settings": workers.settings, "clip_id": clip_id, "suffix": key[key.rfind(".") :], "masking": permit.masking}
            waiting.append(item)
    left_out: dict[str, dict[str, str]] = {"unmaskable": {}, "not_clean": {}}
    for clip_id, said in _made(waiting, workers, standing=len(copies)):
        if "copy" in said:
            copies[clip_id] = copy_of(said["copy"])
        else:
            for name, why in said.items():
                left_out[name][clip_id] = why
    return Masked(copies=copies, **{name: dict(sorted(clips.items())) for name, clips in left_out.items()}, permit=permit)


def _made(items: Sequence[Mapping[str, Any]], workers: Workers, *, standing: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each clip with what its worker said; one whose worker dies twice, the second time alone, cannot be masked.

    Raises:
        OutsideError: all of them died, so it was no clip's fault.
    """
    died, engine, total = 0, workers.engine, standing + len(items)
    following = [*(item["clip_id"] for item in items), ""]
    workers.tell(MaskingStep(done=standing, total=total, standing=standing, clip_id=following[0]))
    for number, (item, outcome) in enumerate(zip(items, engine.map(JOB, items) if items else (), strict=True), start=1):
        value = outcome.value
        if value is None:
            again = next(iter(engine.map(JOB, [item])))
            died += again.value is None
            value = again.value or {"unmaskable": again.failure or "its worker died"}
            if died == len(items):
                fix = "see to the machine's memory and disk, then build again"
                raise OutsideError(f"none could be masked: {value['unmaskable']}", subject=f"{died} clips", fix=fix)
        said = or_raise(value)
        workers.tell(MaskingStep(done=standing + number, total=total, standing=standing, clip_id=following[number]))
        yield item["clip_id"], said


def _standing_copy(note_key: str, store: ObjectStore) -> MaskedCopy | None:
    """The copy that an earlier build made, if it is whole."""
    if store.size(note_key) is None:
        return None
    copy = copy_of(json.loads(store.read(note_key)))
    return copy if store.size(copy.key) == copy.size_bytes else None

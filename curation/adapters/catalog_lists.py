"""Lists of structs, some of them missing, through PyIceberg and back.

PyIceberg 0.12 reads and writes lists of structs by their offsets alone, so a missing list comes back as an empty one
(ArrowProjectionVisitor.list). A list of one missing struct survives: inside the table it stands for a missing list.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def is_struct_list(kind: pa.DataType) -> bool:
    """Whether these are lists of structs."""
    return bool(pa.types.is_list(kind) and pa.types.is_struct(kind.value_type))


def _lone_null(lists: pa.ListArray) -> npt.NDArray[np.bool_]:
    """Whether each list is there and holds one struct, a missing one."""
    starts = lists.offsets.to_numpy()
    alone: npt.NDArray[np.bool_] = (np.diff(starts) == 1) & ~lists.is_null().to_numpy(zero_copy_only=False)
    missing = lists.values.is_null().to_numpy(zero_copy_only=False)
    alone[alone] = missing[starts[:-1][alone]]
    return alone


def marked(rows: pa.Table) -> pa.Table:
    """The rows with missing lists of structs marked.

    Raises:
        ValueError: a list holds nothing but a missing struct, as the mark does.
    """
    for at, field in enumerate(rows.schema):
        lists = rows.column(at).combine_chunks() if is_struct_list(field.type) else None
        if lists is None:
            continue
        if _lone_null(lists).any():
            raise ValueError(f"column {field.name} holds a list of one missing struct")
        if lists.null_count:
            with_mark = pa.concat_arrays([lists, pa.array([[None]], field.type)])
            own = np.arange(len(lists))
            picked = np.where(lists.is_null().to_numpy(zero_copy_only=False), len(lists), own)
            rows = rows.set_column(at, field, with_mark.take(pa.array(picked)))
    return rows


def unmarked(rows: pa.Table) -> pa.Table:
    """The rows as they were before `marked`."""
    for at, field in enumerate(rows.schema):
        if is_struct_list(field.type):
            lists = rows.column(at).combine_chunks()
            rows = rows.set_column(at, field, lists.take(pa.array(np.arange(len(lists)), mask=_lone_null(lists))))
    return rows

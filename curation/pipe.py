"""Messages between two processes of ours: JSON with tables, arrays, records and bytes in it, and errors that arrive as they left.

A message is eight bytes of length, a JSON header, and the blobs that the header counts. Nothing is executed that arrives.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

import pyarrow as pa

from curation import errors, records
from curation.errors import CurationError, OutsideError

_LENGTH: Final = struct.Struct(">Q")


def send(file: IO[bytes], message: object) -> None:
    """Write a message.

    Raises:
        OutsideError: the other side is gone.
    """
    blobs: list[bytes] = []
    body = _packed(message, blobs)
    header = json.dumps({"body": body, "blobs": [len(blob) for blob in blobs]}).encode()
    try:
        file.write(_LENGTH.pack(len(header)) + header)
        for blob in blobs:
            file.write(blob)
        file.flush()
    except BrokenPipeError as error:
        raise OutsideError("the other process is gone", subject="pipe", fix="run the step again") from error


def receive(file: IO[bytes]) -> Any:
    """The next message, None where the other side has closed the pipe.

    Raises:
        OutsideError: the other side broke off within a message.
    """
    begun = file.read(_LENGTH.size)
    if not begun:
        return None
    header = json.loads(_exactly(file, _LENGTH.unpack(begun)[0])) if len(begun) == _LENGTH.size else _broken_off()
    blobs = [_exactly(file, size) for size in header["blobs"]]
    return _unpacked(header["body"], blobs)


def error_message(error: CurationError) -> dict[str, Any]:
    """An error as a message."""
    return {"error": type(error).__name__, "problem": error.problem, "subject": error.subject, "fix": error.fix}


def raise_error(message: Mapping[str, Any]) -> None:
    """Nothing, unless the message is an error's: then that error is raised."""
    if "error" in message:
        kind = getattr(errors, str(message["error"]), CurationError)
        raise kind(message["problem"], subject=message["subject"], fix=message["fix"])


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    return data if len(data) == size else _broken_off()


def _broken_off() -> Any:
    raise OutsideError("the other process broke off", subject="pipe", fix="run the step again")


def _packed(value: object, blobs: list[bytes]) -> object:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes | pa.Table | pa.Array):
        return _blob(value, blobs)
    if isinstance(value, Mapping):
        return {"map": {str(name): _packed(one, blobs) for name, one in value.items()}}
    if isinstance(value, Sequence):
        return [_packed(one, blobs) for one in value]
    if dataclasses.is_dataclass(value) and getattr(records, type(value).__name__, None) is type(value):
        fields = {field.name: _packed(getattr(value, field.name), blobs) for field in dataclasses.fields(value)}
        return {"record": type(value).__name__, "fields": fields}
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _unpacked(body: Any, blobs: Sequence[bytes]) -> Any:
    if isinstance(body, list):
        return [_unpacked(one, blobs) for one in body]
    if not isinstance(body, dict):
        return body
    if "map" in body:
        return {name: _unpacked(one, blobs) for name, one in body["map"].items()}
    if "record" in body:
        return getattr(records, body["record"])(**{name: _unpacked(one, blobs) for name, one in body["fields"].items()})
    [(kind, number)] = body.items()
    if kind == "bytes":
        return blobs[number]
    table = pa.ipc.open_stream(blobs[number]).read_all()
    return table if kind == "table" else table.column(0).combine_chunks()


def _blob(value: bytes | pa.Table | pa.Array, blobs: list[bytes]) -> dict[str, int]:
    kind = "bytes" if isinstance(value, bytes) else "table" if isinstance(value, pa.Table) else "array"
    blobs.append(value if isinstance(value, bytes) else _stream(value if kind == "table" else pa.table({"": value})))
    return {kind: len(blobs) - 1}


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())

"""What a reader typed into a form: one field, of a body that may not be longer than a form's."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

from fastapi import Request

_LONGEST_FORM: Final = 4096


async def field(request: Request, name: str) -> str:
    """What the form holds under that name; nothing where it is no form, or longer than one."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _LONGEST_FORM:
            return ""
    fields: dict[str, Any] = parse_qs(data.decode("ascii", "replace"), max_num_fields=4) if data.count(b"&") < 4 else {}
    return str(fields.get(name, [""])[0]).strip()

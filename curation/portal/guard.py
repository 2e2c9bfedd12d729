"""What every response of the portal carries, and what it does not answer to, whichever route was meant."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NONCE: Final = "portal_nonce"  # key of the request's state
READING: Final = frozenset({"GET", "HEAD"})
_FIXED: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Robots-Tag": "noindex, nofollow",
}


def policy(nonce: str, *, framed: bool) -> str:
    """The content security policy: no script at all, the style of this very response, forms and frames of this very server."""
    ancestors = "'self'" if framed else "'none'"
    return f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors {ancestors}"


class Guard:
    """Refuses every method but reading, and puts the headers on every response, errors included."""

    def __init__(self, app: ASGIApp, *, framed: bool, answering: Collection[str] = ()) -> None:
        """Guard `app`.

        Args:
            app: what is guarded.
            framed: whether pages of the same server may show it in a frame.
            answering: paths, below where the app is mounted, of forms that are answered: POST may go to them, and writes nothing either.
        """
        self._app = app
        self._framed = framed
        self._answering = frozenset(answering)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        nonce = scope.setdefault("state", {}).setdefault(NONCE, secrets.token_urlsafe(16))  # one for all that stand around a page

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _FIXED.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = policy(nonce, framed=self._framed)
                headers["X-Frame-Options"] = "SAMEORIGIN" if self._framed else "DENY"
            await send(message)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["method"] in READING or (scope["method"] == "POST" and path in self._answering):
            try:
                await self._app(scope, receive, send_guarded)
            finally:
                scope["query_string"] = b""  # the server around this logs what it finds here when all is over: ids of clips
            return
        headers = [(b"allow", b"GET, HEAD"), (b"content-type", b"text/plain")]
        await send_guarded({"type": "http.response.start", "status": 405, "headers": headers})
        await send({"type": "http.response.body", "body": b"This portal can only be read.\n"})

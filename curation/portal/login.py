"""Sign-in by a token that was drawn when the server started: for one machine, one person, and no password to keep."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from curation.pipeline import Reading
from curation.portal import render
from curation.portal.app import TRACE, Page, create_app
from curation.portal.forms import field
from curation.portal.guard import NONCE, Guard
from curation.portal.languages import preferred

LOGIN: Final = "/login"
HOSTS: Final = ("127.0.0.1", "localhost")


class TokenLogin:
    """Knows the token, and the session that it opens; both are drawn anew for each server and never written down."""

    def __init__(self, port: int) -> None:
        """A login of the server on that port of this machine."""
        self.token = secrets.token_urlsafe(32)
        self._session = secrets.token_urlsafe(32)
        self.cookie = f"curation-portal-{port}"  # browsers send cookies of one port to all ports of a host

    def authorize(self, _: Page) -> Callable[[Request], None]:
        """Every page needs the session, and no page more than it."""

        def require(request: Request) -> None:
            if not _same(request.cookies.get(self.cookie, ""), self._session):
                raise HTTPException(401)

        return require

    def open(self, given: str) -> Response | None:
        """The way in, for the token; None for anything else."""
        if not _same(given, self.token):
            return None
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(self.cookie, self._session, path="/", httponly=True, samesite="strict")
        return response


def _same(given: str, wanted: str) -> bool:
    """Whether they are equal, in a time that tells nothing of where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def standalone(open_reading: Callable[[], Reading], login: TokenLogin) -> FastAPI:
    """The portal with its own sign-in page, for this machine alone; names of other hosts that lead here are refused."""
    outer = FastAPI(title="Auditor's portal", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)

    async def sign_in(request: Request) -> Response:
        """The form; posted, the way in."""
        if request.method != "POST":
            return _form(request, wrong=False)
        found = login.open(await field(request, "token"))
        return _form(request, wrong=True) if found is None else found

    outer.add_api_route(LOGIN, sign_in, methods=["GET", "HEAD", "POST"], response_class=HTMLResponse)
    outer.mount("/", create_app(open_reading, login.authorize, login_url=lambda _: LOGIN))
    outer.add_middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS])
    outer.add_middleware(Guard, framed=False, answering={LOGIN, TRACE})
    return outer


def _form(request: Request, *, wrong: bool) -> HTMLResponse:
    html = render.page(
        "login",
        lang=preferred(request.headers.get("accept-language")),
        base="",
        nonce=request.scope["state"][NONCE],
        path=LOGIN,
        query={},
        shown={"wrong": wrong, "page": ""},
    )
    return HTMLResponse(html, status_code=401 if wrong else 200)

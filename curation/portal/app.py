"""The portal as a FastAPI app that lets nobody in by itself: whoever mounts it says who may see which page."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from curation.errors import CurationError, EvidenceBroken
from curation.pipeline import Reading
from curation.portal import render
from curation.portal.forms import field
from curation.portal.guard import NONCE, Guard
from curation.portal.languages import is_language, preferred
from curation.residency import diff
from curation.residency.explain import Language, explain

Page = Literal["overview", "batches", "releases", "trace", "packs", "counters", "shard_sets"]
Authorize = Callable[[Page], Callable[..., Any]]
TRACE: Final = "/trace"
LANGUAGE_COOKIE: Final = "curation-portal-lang"
_PER_PAGE: Final = 50
_YEAR_S: Final = 365 * 24 * 3600
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)  # of batches and releases, as they are made
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGESTS: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}", re.ASCII)  # of rows and clips
_LONGEST_ID: Final = 256  # of what may be traced
_MAX_PAGE_DIGITS: Final = 6

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paged(Generic[T]):
    """One page of a list, counted from 1."""

    items: Sequence[T]
    page: int
    page_count: int


def paged(items: Sequence[T], asked: str | None) -> Paged[T]:
    """The page that was asked for; the first one for what is no number, the last one for what lies beyond it."""
    pages = max(1, math.ceil(len(items) / _PER_PAGE))
    is_number = asked is not None and asked.isascii() and asked.isdigit() and len(asked) <= _MAX_PAGE_DIGITS
    page = min(max(1, int(asked)), pages) if is_number and asked is not None else 1
    return Paged(items=items[(page - 1) * _PER_PAGE : page * _PER_PAGE], page=page, page_count=pages)


def create_app(
    open_reading: Callable[[], Reading], authorize: Authorize, *, login_url: Callable[[Request], str], framed: bool = False
) -> FastAPI:
    """The portal.

    Args:
        open_reading: opens the home to be read; called at the first page that is shown.
        authorize: the FastAPI dependency that lets a request see a page, or raises 401 (sent to the login) or 403.
        login_url: where a browser without a session is sent.
        framed: whether pages of the same server may show the portal in a frame.
    """
    app = FastAPI(title="Auditor's portal", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_middleware(Guard, framed=framed, answering={TRACE})
    _Pages(_once(open_reading)).put_on(app, authorize)
    app.add_exception_handler(CurationError, _problem)
    app.add_exception_handler(StarletteHTTPException, _refusal(login_url))
    return app


def _once(open_reading: Callable[[], Reading]) -> Callable[[], Reading]:
    """Opens at the first call that succeeds; the ledger that was read stays read."""
    turn, opened = threading.Lock(), list[Reading]()

    def reading() -> Reading:
        with turn:
            if not opened:
                opened.append(open_reading())
            return opened[0]

    return reading


async def _asked(request: Request) -> str:
    return (await field(request, "id"))[:_LONGEST_ID]


class _Pages:
    """The routes: each takes a record from the home that is read, and shows it."""

    def __init__(self, reading: Callable[[], Reading]) -> None:
        self._reading = reading

    def put_on(self, app: FastAPI, authorize: Authorize) -> None:
        """Add every route to the app, each with the right of its page; what matches none needs a right as well."""
        routes: tuple[tuple[str, Page, Callable[..., Response]], ...] = (
            ("/", "overview", self.overview),
            ("/batches", "batches", self.batches),
            ("/batches/{batch_id}", "batches", self.batch),
            ("/releases", "releases", self.releases),
            ("/releases/{release_id}", "releases", self.release),
            (TRACE, "trace", self.trace),
            ("/packs", "packs", self.packs),
            ("/packs/compare", "packs", self.compare),
            ("/packs/{digest}", "packs", self.pack),
            ("/counters", "counters", self.counters),
            ("/shard-sets", "shard_sets", self.shard_sets),
            ("/{path:path}", "overview", self.nothing),
        )
        for path, right, route in routes:
            app.add_api_route(path, route, methods=["GET", "HEAD"], dependencies=[Depends(authorize(right))], response_class=HTMLResponse)
        may_trace = [Depends(authorize("trace"))]
        app.add_api_route(TRACE, self.trace_asked, methods=["POST"], dependencies=may_trace, response_class=HTMLResponse)

    def overview(self, request: Request) -> Response:
        """Today."""
        return _show(request, "overview", "overview", told=self._reading().overview())

    def batches(self, request: Request) -> Response:
        """Every batch."""
        return _show(request, "batches", "batches", told=paged(self._reading().batches(), request.query_params.get("page")))

    def batch(self, request: Request, batch_id: str) -> Response:
        """One batch."""
        return _show(request, "batch", "batches", told=_found(self._reading().batch(_checked(batch_id, _ID))))

    def releases(self, request: Request) -> Response:
        """Every release."""
        return _show(request, "releases", "releases", told=paged(self._reading().releases(), request.query_params.get("page")))

    def release(self, request: Request, release_id: str) -> Response:
        """One release."""
        return _show(request, "release", "releases", told=_found(self._reading().release(_checked(release_id, _ID))))

    def trace(self, request: Request) -> Response:
        """One clip, row or shard set, by a link; vehicles are not looked for, so that their ids stand in no address."""
        asked = request.query_params.get("id", "").strip()[:_LONGEST_ID]
        wellformed = _ID.fullmatch(asked) is not None
        told = self._reading().story(asked.lower() if _DIGESTS.fullmatch(asked.lower()) else asked) if wellformed else None
        return _show(
            request,
            "trace",
            "trace",
            told=told,
            asked=asked,
            kept={"id": asked} if told else {},
            missed=bool(asked) and not told,
            wellformed=wellformed,
        )

    def trace_asked(self, request: Request, asked: Annotated[str, Depends(_asked)]) -> Response:
        """One clip, row, shard set or vehicle, as typed in; nothing of it stands in an address."""
        reading, told = self._reading(), None
        if asked:
            told = reading.story(asked.lower() if _DIGESTS.fullmatch(asked.lower()) else asked) or reading.vehicle_story(asked)
        return _show(
            request, "trace", "trace", told=told, asked=told.subject if told else "", wellformed=True, missed=bool(asked) and not told
        )

    def packs(self, request: Request) -> Response:
        """Every pack."""
        return _show(request, "packs", "packs", told=self._reading().packs())

    def pack(self, request: Request, digest: str) -> Response:
        """One pack, to be read."""
        _checked(digest, _DIGEST)
        reading = self._reading()
        told = _found(next((one for one in reading.packs() if one.line.digest == digest), None))
        text = explain(told.pack, told.roles, _language(request), today=reading.today)
        return _show(request, "pack", "packs", told=told, page_of_pack=render.markdown(text))

    def compare(self, request: Request) -> Response:
        """What changes from one pack to another."""
        asked = {side: _checked(request.query_params.get(side, ""), _DIGEST) for side in ("old", "new")}
        by_digest = {one.line.digest: one for one in self._reading().packs()}
        old, new = (_found(by_digest.get(asked[side])) for side in ("old", "new"))
        rules, columns = diff.rules(old.pack, new.pack), diff.columns(old.pack, new.pack)
        reasons = {rule.id: rule.reason for rule in (*old.pack.rules, *new.pack.rules)}
        hits = {side: self._reading().last_cut_under(asked[side]) for side in ("old", "new")}
        return _show(request, "compare", "packs", old=old, new=new, rules=rules, columns=columns, reasons=reasons, hits=hits, kept=asked)

    def counters(self, request: Request) -> Response:
        """Every counter."""
        return _show(request, "counters", "counters", told=self._reading().counters())

    def shard_sets(self, request: Request) -> Response:
        """Every shard set."""
        return _show(request, "shard_sets", "shard_sets", told=paged(self._reading().shard_sets(), request.query_params.get("page")))

    def nothing(self, path: str) -> Response:  # noqa: ARG002 - the route needs a name for what it matched
        """No page."""
        raise HTTPException(404)


def _checked(text: str, pattern: re.Pattern[str]) -> str:
    """The id as it came, if it has the form of one; what has not can be no key of the store."""
    if pattern.fullmatch(text) is None:
        raise HTTPException(404)
    return text


def _found(record: T | None) -> T:
    if record is None:
        raise HTTPException(404)
    return record


def _language(request: Request) -> Language:
    asked = request.query_params.get("lang")
    chosen = asked if is_language(asked) else request.cookies.get(LANGUAGE_COOKIE)
    return chosen if is_language(chosen) else preferred(request.headers.get("accept-language"))


def _show(
    request: Request, template: str, page: str, *, status: int = 200, kept: Mapping[str, str] | None = None, **shown: object
) -> HTMLResponse:
    """The response of a template; `kept` is what of the query belongs to the page in every language."""
    lang, base = _language(request), str(request.scope.get("root_path", ""))
    path = "/" if template == "problem" else request.url.path.removeprefix(base)  # any path may have led to a problem, "//host" as well
    html = render.page(
        template, lang=lang, base=base, nonce=request.scope["state"][NONCE], path=path, query=kept or {}, shown={"page": page, **shown}
    )
    response = HTMLResponse(html, status_code=status)
    if is_language(request.query_params.get("lang")):
        response.set_cookie(LANGUAGE_COOKIE, lang, max_age=_YEAR_S, path=f"{base}/", httponly=True, samesite="strict")
    return response


async def _problem(request: Request, problem: Exception) -> Response:
    """A page that says why there is none; `authorize` has let the request pass before anything could raise this."""
    broken = isinstance(problem, EvidenceBroken)
    lead = ("broken_title", "broken_lead") if broken else ("refused_title", "problem_lead")
    status = 500 if broken else 503
    return _show(request, "problem", "", status=status, heading=lead[0], lead=lead[1], problem=problem)


def _refusal(login_url: Callable[[Request], str]) -> Callable[[Request, Exception], Any]:
    async def refuse(request: Request, refused: Exception) -> Response:
        status = refused.status_code if isinstance(refused, StarletteHTTPException) else 500
        if status == 401 and "text/html" in request.headers.get("accept", ""):
            return RedirectResponse(login_url(request), status_code=303)
        if status == 404 and NONCE in request.scope.get("state", {}):
            return _show(request, "problem", "", status=404, heading="missing_title", lead="missing_lead", problem=None)
        return PlainTextResponse({401: "Sign in first.\n", 403: "Not for you.\n"}.get(status, "Refused.\n"), status_code=status)

    return refuse

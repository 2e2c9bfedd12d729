"""Every route of the portal: who gets in, what is shown, what never is, and what hostile names and ids come to."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.routing import APIRoute

from curation import pipeline
from curation.audit.releases import rule_hits
from curation.audit.words import names, texts
from curation.errors import OutsideError
from curation.model_settings import PROOF_MODELS
from curation.portal.app import create_app, paged
from curation.portal.guard import READING
from curation.portal.languages import preferred
from curation.portal.login import TokenLogin, standalone
from tests.portal.conftest import BATCH, IMAGE, INJECTION, REFUSED_BATCH, SCRIPT

PORT = 8470


@pytest.fixture(scope="module")
def client_of() -> Iterator[Callable[[FastAPI], Any]]:
    """Makes a client of an app that follows no redirect."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient

        yield lambda app, **named: TestClient(app, base_url="http://127.0.0.1", follow_redirects=False, **named)


@pytest.fixture(scope="module")
def login() -> TokenLogin:
    """The token of the server."""
    return TokenLogin(PORT)


@pytest.fixture(scope="module")
def app(recorded, login) -> FastAPI:
    """The portal with its own sign-in."""
    return standalone(lambda: pipeline.Reading(recorded.settings), login)


@pytest.fixture
def stranger(app, client_of):
    """A client without a session."""
    return client_of(app)


@pytest.fixture
def reader(app, client_of, login):
    """A client that has signed in."""
    client = client_of(app)
    assert 303 == client.post("/login", data={"token": login.token}).status_code
    return client


def pages(recorded) -> list[str]:
    """An address of every page, and more than one where a page looks different."""
    [pack] = pipeline.Reading(recorded.settings).packs()
    waiting = pipeline.Reading(recorded.settings).releases()[0].release_id
    digest = pack.line.digest
    packs = ("/packs", f"/packs/{digest}", f"/packs/compare?old={digest}&new={digest}")
    traces = ("/trace", *(f"/trace?id={one}" for one in (recorded.row_id, recorded.clip_ids[5], "0" * 64)))
    lists = ("/", "/batches", f"/batches/{BATCH}", f"/batches/{REFUSED_BATCH}", "/releases", "/counters", "/shard-sets")
    return [*lists, f"/releases/{recorded.release_id}", f"/releases/{waiting}", *packs, *traces]


def routes(app: FastAPI) -> list[APIRoute]:
    """Every route of the app and of what is mounted in it."""
    found: list[APIRoute] = []
    for route in app.routes:
        found += routes(route.app) if getattr(route, "app", None) is not None and hasattr(route.app, "routes") else [route]
    return [route for route in found if isinstance(route, APIRoute)]


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_anonymous_gets_the_login_and_nothing_else_on_every_route(app, stranger, recorded):
    """Each route of the app, with any path that it takes, is answered with a redirect to the login or a bare 401."""
    known = routes(app)
    assert 14 == len(known)
    paths = {re.sub(r"\{[^}]+\}", "anything", route.path) for route in known} - {"/login"}
    for path in (*sorted(paths), *pages(recorded), "/static/x", "/docs", "/openapi.json", "/favicon.ico", "/a/b/c"):
        sent = stranger.get(path, headers={"accept": "text/html"})
        assert (303, "/login", "") == (sent.status_code, sent.headers["location"], sent.text), path
        bare = stranger.get(path, headers={"accept": "application/json", "cookie": "curation-portal-8470=guess"})
        assert (401, "Sign in first.\n") == (bare.status_code, bare.text), path
        assert 303 == stranger.head(path, headers={"accept": "text/html"}).status_code, path
    assert {"GET", "HEAD"} == set.union(*(set(route.methods) for route in known if route.path not in {"/login", "/trace"}))
    asked = stranger.post("/trace", data={"id": recorded.row_id}, headers={"accept": "text/html"})
    assert (303, "/login", "") == (asked.status_code, asked.headers["location"], asked.text)


def test_nothing_can_be_written_by_any_method(reader, stranger, app):
    """Every other method is refused on every route, for a stranger and for a reader alike."""
    for client in (reader, stranger):
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            for path in ("/", "/batches", "/trace/x", "/anything"):
                assert 405 == client.request(method, path).status_code, (method, path)
    assert {"GET", "HEAD"} == READING


def test_only_the_token_opens(stranger, login, recorded):
    """Wrong, missing, overlong and badly made forms get the form again and no cookie; the cookie is kept from scripts and other sites."""
    for body in ({"token": "x"}, {"token": login.token + "x"}, {"token": ""}, {}, {"token": "x" * 9000}, {str(n): "x" for n in range(99)}):
        again = stranger.post("/login", data=body)
        assert (401, None) == (again.status_code, again.headers.get("set-cookie"))
    assert 401 == stranger.post("/login", content=b"\xff\x00token").status_code
    opened = stranger.post("/login", data={"token": f" {login.token} "})
    cookie = opened.headers["set-cookie"].lower()
    assert (303, "/") == (opened.status_code, opened.headers["location"])
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert login.token not in opened.headers["set-cookie"]
    assert TokenLogin(PORT).token != login.token


def test_a_name_of_another_host_is_refused(app, client_of):
    """A page of elsewhere whose name leads to this machine cannot talk to the portal."""
    client = client_of(app)
    assert 400 == client.get("/login", headers={"host": "rebound.example"}).status_code
    assert 200 == client.get("/login", headers={"host": "localhost:8470"}).status_code


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_page_is_shown_without_a_script_or_a_sensitive_value(reader, recorded, lang):
    """200 in each language; no script, handler, inline style or foreign address; no value of a sensitive column; hostile names are text."""
    for path in pages(recorded):
        page = reader.get(path, headers={"accept-language": lang})
        assert 200 == page.status_code, path
        assert [needle for needle in recorded.needles if needle in page.text] == [], path
        check_markup(page.text, path)
        assert f'lang="{"zh-CN" if lang == "zh" else "en"}"' in page.text
        check_headers(page.headers)


def check_markup(html: str, path: str) -> None:
    """No tag of the page can run a script or ask another server; charts have a title."""
    found = Tags(html).found
    assert {tag for tag, _ in found}.isdisjoint({"script", "iframe", "img", "object", "embed", "base", "audio", "video"}), path
    for tag, attributes in found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (path, tag)
        for name in ("href", "action", "src"):
            assert (attributes.get(name) or "/").startswith(("/", "#", "data:image/svg+xml", "data:,")), (path, attributes)
    charts = [attributes for tag, attributes in found if tag == "svg" and attributes.get("role") == "img"]
    assert all(attributes["aria-label"] for attributes in charts)
    assert html.count("<title>") > len(charts)


def check_headers(headers: Any) -> None:
    """The policy lets through this response's own style and nothing else."""
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    wanted = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store", "x-frame-options": "DENY"}
    assert wanted == {name: headers[name] for name in wanted}


def test_each_response_has_a_nonce_of_its_own_and_its_style_carries_it(reader):
    """Two responses differ in their nonce, and the style's is the one that the header names."""
    nonces = []
    for _ in range(2):
        page = reader.get("/")
        nonces.append(re.search(r"'nonce-([^']+)'", page.headers["content-security-policy"]).group(1))
        assert f'<style nonce="{nonces[-1]}">' in page.text
    assert 2 == len(set(nonces))


def test_hostile_names_are_shown_as_text(reader, recorded):
    """Recipient, purpose, ticket, reason, source and check that are markup or SQL stand escaped on their pages."""
    release = reader.get(f"/releases/{recorded.release_id}").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in release
    assert "&#39; OR 1=1 --" in release
    for path in pages(recorded):
        text = reader.get(path).text
        assert SCRIPT not in text
        assert IMAGE not in text
    for hostile in (SCRIPT, INJECTION, IMAGE, "../../home/keys/ledger.pem", "0" * 63 + "'", "\uff05\uff10"):
        page = reader.get("/trace", params={"id": hostile})
        assert 200 == page.status_code
        assert hostile not in page.text or hostile.isalnum() or "<" not in hostile
        assert "This is no id of a clip, row or shard set." in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/batches/..%2f..%2fhome%2fkeys",
        "/batches/../../../../etc/passwd",
        "/batches/%2e%2e",
        "/batches/%00",
        "/batches/fleet-0123456789abcdeg",
        "/releases/..%5c..%5ckeys",
        "/releases/<script>alert(1)</script>",
        "/releases/' OR 1=1 --",
        "/releases/" + "a" * 5000,
        "/packs/" + "0" * 64,
        "/packs/../ledger",
        "/packs/compare?old=../x&new=..",
        "/packs/compare",
        "/static/style.css",
        "/login/",
        "http://127.0.0.1//evil.example/",
    ],
)
def test_an_id_that_is_none_is_no_key_of_the_store(reader, path):
    """What is recorded nowhere is a page that says so: no file is looked for under a reader's words, and none of them is markup."""
    page = reader.get(path)
    assert 404 == page.status_code
    assert "<script>" not in page.text
    assert "passwd" not in page.text
    assert "evil" not in page.text
    check_headers(page.headers)


def test_the_language_is_asked_for_kept_and_guessed(reader, stranger):
    """?lang= wins and is kept in a cookie; then the cookie; then what the browser prefers; anything else is English."""
    chosen = reader.get("/batches?lang=zh")
    assert "批次" in chosen.text
    assert "samesite=strict" in chosen.headers["set-cookie"].lower()
    assert "批次" in reader.get("/batches", headers={"accept-language": "en"}).text
    assert "The unit of work" in reader.get("/batches?lang=en").text
    assert "The unit of work" in reader.get("/batches?lang=%3Cscript%3E").text
    told = {"zh-CN,zh;q=0.9,en;q=0.8": "zh", "en;q=0.5, zh;q=0.9": "zh", "fr, en": "en", "": "en", "zh;q=0, en;q=0.1": "en", "zh;q=x": "en"}
    assert told == {header: preferred(header) for header in told}
    assert "令牌" in stranger.get("/login", headers={"accept-language": "zh"}).text


def test_each_page_asks_for_its_own_right(recorded, client_of):
    """Whoever may see batches alone sees batches alone, and a refusal says nothing of the page."""

    def authorize(page: str) -> Callable[[Request], None]:
        def require(request: Request) -> None:
            if request.headers.get("x-may") != page:
                raise HTTPException(403, detail="secret detail")

        return require

    client = client_of(create_app(lambda: pipeline.Reading(recorded.settings), authorize, login_url=lambda _: "/in", framed=True))
    rights = {"/": "overview", "/batches": "batches", f"/releases/{recorded.release_id}": "releases", "/trace": "trace", "/packs": "packs"}
    rights |= {"/counters": "counters", "/shard-sets": "shard_sets"}
    for path, right in rights.items():
        assert 200 == client.get(path, headers={"x-may": right}).status_code
        refused = client.get(path, headers={"x-may": "batches" if right != "batches" else "trace"})
        assert (403, "Not for you.\n") == (refused.status_code, refused.text)
    assert "frame-ancestors 'self'" in client.get("/").headers["content-security-policy"]


def test_a_home_that_cannot_be_read_now_says_why_and_is_asked_again(recorded, client_of, login):
    """What failed outside is told with its fix, and the next request tries anew."""
    tries = []

    def open_reading() -> pipeline.Reading:
        tries.append(1)
        if len(tries) == 1:
            raise OutsideError("is away", subject="store <b>", fix="bring it back")
        return pipeline.Reading(recorded.settings)

    client = client_of(standalone(open_reading, login))
    client.post("/login", data={"token": login.token})
    away = client.get("/")
    assert 503 == away.status_code
    assert "store &lt;b&gt;" in away.text
    assert "bring it back" in away.text
    assert 200 == client.get("/").status_code


def test_an_empty_home_says_what_to_do_next(tmp_path, client_of, login):
    """Every list of a home where nothing happened is shown, with the next step."""
    settings = pipeline.open_settings(tmp_path)
    client = client_of(standalone(lambda: pipeline.Reading(settings), login))
    client.post("/login", data={"token": login.token})
    steps = {"/": "curation pull", "/batches": "curation pull", "/releases": "publish_metadata", "/shard-sets": "curate_shards"}
    for path, step in steps.items():
        page = client.get(path)
        assert (200, True) == (page.status_code, step in page.text), path


def test_two_packs_are_told_apart_and_compared(recorded, client_of, login, tmp_path):
    """A pack in force that nobody signed is shown with why it is refused; the one before it stands below, and what changes is listed."""
    work = Path(shutil.copytree(recorded.settings.work, tmp_path / "work"))
    baseline = resources.files("curation.residency").joinpath("packs", "cn-baseline.yaml")
    toml = work / "curation.toml"
    said = re.sub(r'pack = ".*"', f'pack = "{baseline}"', toml.read_text(encoding="utf-8"))
    toml.write_text(said.replace("allow_demo_pack = true", "allow_demo_pack = false"), encoding="utf-8")
    reading = pipeline.Reading(pipeline.open_settings(work))
    now, before = reading.packs()
    assert ("refused", "replaced") == (now.line.standing, before.line.standing)
    client = client_of(standalone(lambda: reading, login))
    client.post("/login", data={"token": login.token})
    listed = client.get("/packs").text
    assert "is unsigned" in listed
    assert listed.count("<option") == 4
    changes = client.get(f"/packs/compare?old={before.line.digest}&new={now.line.digest}&lang=zh")
    assert "combination.k" in changes.text
    assert f"old={before.line.digest}&amp;new={now.line.digest}&amp;lang=en" in changes.text
    assert [needle for needle in recorded.needles if needle in changes.text] == []
    check_markup(changes.text, "compare")
    assert "cn-baseline" in client.get(f"/packs/{now.line.digest}").text


def test_long_lists_are_cut_into_pages():
    """Fifty a page; what is no number is the first page, what lies beyond the last."""
    items = list(range(120))
    assert (3, 50, 0) == (paged(items, None).page_count, len(paged(items, "1").items), paged(items, "1").items[0])
    assert [100] * 3 == [paged(items, asked).items[0] for asked in ("3", "999", "999999")]
    assert [0] * 6 == [paged(items, asked).items[0] for asked in ("0", "-1", "x", "\uff19", "1" * 40, "'")]


def test_every_sentence_stands_in_both_languages():
    """No key is missing, none is unused, and both languages fill in the same words."""
    folder = Path(__file__).resolve().parents[2] / "curation" / "portal"
    places = [*folder.glob("templates/*.j2"), *folder.glob("*.py"), *folder.parent.glob("audit/report*.py")]
    said = "".join(path.read_text(encoding="utf-8") for path in places)
    assert set() == set(re.findall(r"""(?:\bt\(|words\.text\()["']([a-z_0-9]+[a-z0-9])["']""", said)) - set(texts())
    assert [] == [key for key in texts() if f'"{key}"' not in said and not key.startswith(("group_", "none_", "wait_"))]
    for key, (english, chinese) in texts().items():
        assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), key
        assert english.strip()
        assert key in {"digest", "used_of"} or re.search(r"[\u4e00-\u9fff]", chinese), key
    assert all(re.search(r"[\u4e00-\u9fff]", chinese) for _, chinese in names().values())
    assert set() == {*PROOF_MODELS, "face", "plate", "unmaskable", "not_clean"} - names().keys()


@pytest.mark.parametrize(
    ("lang", "said"), [("en", ("masked", "not masked", "it proves nothing")), ("zh", ("已遮盖", "未遮盖", "不能证明"))]
)
def test_a_shard_set_says_whether_it_is_masked_and_on_whose_word(reader, recorded, lang, said):
    """By which models, with digests, and what that left out; its story as well; names in it are text."""
    for path in ("/shard-sets", f"/trace?id={recorded.masked_set_id}"):
        page = reader.get(path, params={"lang": lang, **({"id": recorded.masked_set_id} if "id=" in path else {})}).text
        wanted = (said[0], said[2], "b" * 64, "c" * 64, "e" * 64, "4,321", "2027-11-21", "&lt;img src=x onerror=alert(1)&gt;-1")
        assert [] == [words for words in wanted if words not in page], path
        assert IMAGE not in page
    assert said[1] in reader.get("/shard-sets", params={"lang": lang}).text


def test_what_is_typed_into_trace_is_answered_and_stands_nowhere(reader, recorded):
    """A clip, row, shard set or vehicle; the answer about a vehicle does not repeat its id, which a link, that logs keep, asks in vain."""
    for asked in (recorded.clip_ids[0], recorded.row_id, recorded.shard_set_id):
        page = reader.post("/trace", data={"id": f" {asked} "})
        assert (200, True) == (page.status_code, 'class="story"' in page.text), asked
        assert f"?id={asked}" not in page.text.split("</header>")[0]
    [vehicle] = {"fleet-0001"} & set(recorded.needles)
    page = reader.post("/trace", data={"id": vehicle})
    assert 'class="story"' in page.text
    assert vehicle not in page.text
    check_markup(page.text, "/trace")
    assert "Nothing is known under this id." in reader.get(f"/trace?id={vehicle}").text
    for hostile in (SCRIPT, INJECTION, "x" * 9000, "\x00"):
        page = reader.post("/trace", data={"id": hostile})
        assert (200, False) == (page.status_code, 'class="story"' in page.text)
        assert SCRIPT not in page.text


def test_a_query_is_gone_when_the_server_around_logs_the_request(app, login, recorded):
    """What an access log finds in the scope after a request names no clip."""
    import anyio

    async def ask() -> bytes:
        session = f"{login.cookie}={login._session}".encode()
        scope = {
            "type": "http", "method": "GET", "path": "/trace", "raw_path": b"/trace", "root_path": "", "scheme": "http",
            "query_string": f"id={recorded.row_id}".encode(), "headers": [(b"cookie", session), (b"host", b"127.0.0.1")],
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "http_version": "1.1",
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        said: list[dict[str, Any]] = []
        await app(scope, receive, send)
        assert recorded.row_id.encode() in b"".join(message.get("body", b"") for message in said)
        return scope["query_string"]

    assert b"" == anyio.run(ask)


def test_a_row_with_a_gap_is_told_by_what_was_missing(recorded):
    """An output rule that withheld rows names its column and the inputs of it; every other rule names none."""
    [pack] = [one.pack for one in pipeline.Reading(recorded.settings).packs()]
    hits = {one.rule: (one.column, one.inputs) for one in rule_hits({"output.resolution_class": 2, "row.accepted": 1}, pack)}
    assert {"output.resolution_class": ("resolution_class", ("width_px", "height_px")), "row.accepted": ("", ())} == hits


def test_a_changed_rule_says_how_many_rows_it_withheld(recorded):
    """The last release under a pack is found by the pack's file; for a pack that nothing was cut under there is none."""
    reading = pipeline.Reading(recorded.settings)
    [pack] = reading.packs()
    last = reading.last_cut_under(pack.line.digest)
    assert last is not None
    assert (reading.releases()[0].release_id, 1) == (last.line.release_id, {one.rule: one.row_count for one in last.rules}["combination.k"])
    assert reading.last_cut_under("0" * 64) is None

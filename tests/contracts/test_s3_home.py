"""Nothing leads the S3 store abroad: no redirect, environment, policy or replication; and it says what a server does not tell."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from curation import wiring
from curation.adapters import s3_bucket, s3_client
from curation.adapters.store_s3 import S3Store
from curation.errors import CurationError, NotAtHome, OutsideError, SettingsError
from curation.settings import HomeSettings, S3StoreSettings, read_settings

KEYS = {"HOME_S3_KEY": "key", "HOME_S3_SECRET": "secret"}
HOME = HomeSettings(hosts=("s3.cn-north-1.amazonaws.com.cn",), suffixes=(".s3.cn-north-1.amazonaws.com.cn",), regions=("cn-north-1",))
Answer = tuple[int, Mapping[str, str], str]


class _Answering(ThreadingHTTPServer):
    """A server that answers by rule and remembers what it was asked."""

    def __init__(self, answer: Callable[[str, str], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer, self.asked = answer, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Answering

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, body))
        status, headers, text = self.server.answer(self.command, self.path)
        self.send_response(status)
        data = b"" if self.command == "HEAD" else text.encode()
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str, str], Answer]], _Answering]]:
    """Starts servers on loopback and stops them."""
    running: list[tuple[_Answering, threading.Thread]] = []

    def start(answer: Callable[[str, str], Answer]) -> _Answering:
        server = _Answering(answer)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(5)
        server.server_close()


def _settings(url: str, **changed: object) -> S3StoreSettings:
    names = {"access_key_variable": "HOME_S3_KEY", "secret_key_variable": "HOME_S3_SECRET"}
    fixed = {"kind": "s3", "endpoint_url": url, "bucket": "clips", "region": "cn-north-1", "profile": "seaweedfs", "credentials": names}
    return S3StoreSettings.model_validate({**fixed, **changed})


def _store(url: str, folder: Path, *, home: HomeSettings = HOME, **changed: object) -> S3Store:
    return S3Store(_settings(url, **changed), home=home, spool=folder / "spool", env=KEYS)


def _error(code: str, more: str = "") -> str:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>m</Message>{more}</Error>'


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://s3.us-east-1.amazonaws.com", "us-east-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "us-east-1"),
        ("https://s3.cn-north-1.amazonaws.com.cn.evil.example", "cn-north-1"),
        ("http://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("http://10.0.0.1:9000", "cn-north-1"),
    ],
)
def test_a_store_abroad_cannot_exist(tmp_path: Path, url: str, region: str) -> None:
    """Foreign host, wrong region, look-alike host, and an unencrypted way off this machine are refused before anything is sent."""
    home = HOME.model_copy(update={"hosts": (*HOME.hosts, "10.0.0.1")}) if url.endswith(":9000") else HOME
    with pytest.raises(NotAtHome):
        _store(url, tmp_path, home=home, region=region)
    with pytest.raises(NotAtHome, match="jurisdiction SG"):
        _store("http://127.0.0.1:1", tmp_path, jurisdiction="SG")


@pytest.mark.parametrize("status", [301, 302, 307, 308])  # of a 303, which S3 never sends, urllib3 makes an error
@pytest.mark.parametrize("operation", ["create", "read"])
def test_a_redirect_is_never_followed(serve: Any, tmp_path: Path, status: int, operation: str) -> None:
    """Neither to another host nor to another port of this one; a foreign target is named."""
    target = serve(lambda *_: (200, {"ETag": '"x"'}, ""))
    near = serve(lambda *_: (status, {"Location": f"{target.url}/clips"}, ""))
    far = serve(lambda *_: (status, {"Location": "https://s3.us-east-1.amazonaws.com/clips"}, ""))
    calls = {"create": lambda store: store.create("k", b"clip bytes"), "read": lambda store: store.read("k")}
    with pytest.raises(CurationError, match="not followed"):
        calls[operation](_store(near.url, tmp_path))
    with pytest.raises(NotAtHome, match=r"us-east-1\.amazonaws\.com"):
        calls[operation](_store(far.url, tmp_path))
    assert [] == target.asked
    assert [1, 1] == [len(server.asked) for server in (near, far)]
    assert not any(b"clip bytes" in body for _, _, body in near.asked + far.asked)


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (301, {"x-amz-bucket-region": "us-east-1"}, _error("PermanentRedirect", "<Endpoint>clips.s3.us-east-1.amazonaws.com</Endpoint>")),
        (400, {}, _error("AuthorizationHeaderMalformed", "<Region>us-east-1</Region>")),
        (400, {"x-amz-bucket-region": "us-east-1"}, _error("IllegalLocationConstraintException")),
    ],
)
def test_a_hint_at_another_region_is_not_taken(serve: Any, tmp_path: Path, status: int, headers: Mapping[str, str], body: str) -> None:
    """botocore would sign again for the region that it is told and send the bytes once more: here it asks once."""
    server = serve(lambda *_: (status, headers, body))
    with pytest.raises(CurationError):
        _store(server.url, tmp_path).read("k")
    assert 1 == len(server.asked)


def test_every_request_passes_the_guard_as_it_is_sent(serve: Any, tmp_path: Path) -> None:
    """Whatever changes a request's address or region after all settings were read is refused at the last moment."""
    server = serve(lambda *_: (200, {}, ""))

    def to_elsewhere(request: Any, **_: object) -> None:
        request.url = request.url.replace("127.0.0.1", "127.0.0.1.evil.example")

    store = _store(server.url, tmp_path)
    store._client.meta.events.register("before-sign.s3.GetObject", to_elsewhere)
    with pytest.raises(NotAtHome, match=r"evil\.example"):
        store.read("k")
    client = s3_client.connect(_settings("https://s3.cn-north-1.amazonaws.com.cn"), home=HOME, env=KEYS)
    client.meta.events.register_first("before-send.s3", lambda request, **_: request.headers.__setitem__("Authorization", b"unsigned"))
    with pytest.raises(NotAtHome, match="region ''"):
        client.get_object(Bucket="clips", Key="k")
    assert [] == server.asked


def test_the_environment_cannot_move_the_store(
    seaweed: Any, serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Endpoints, regions, proxies and profiles in variables and AWS files are not obeyed, and the endpoint is said not to be."""
    trap = serve(lambda *_: (200, {}, ""))
    (tmp_path / "config").write_text(f"[default]\nendpoint_url = {trap.url}\nregion = us-east-1\ns3 =\n  addressing_style = virtual\n")
    traps = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), trap.url)
    named = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_PROFILE": "missing",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in {**traps, **named, "AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"}.items():
        monkeypatch.setenv(name, value)
    settings = seaweed.settings(prefix=f"{secrets.token_hex(6)}/")
    with caplog.at_level(logging.WARNING):
        store = S3Store(settings, home=HomeSettings(), spool=tmp_path / "spool", env={**seaweed.env, **traps})
    assert store.create("k", b"x") is True
    assert b"x" == store.read("k")
    assert [] == trap.asked
    assert "AWS_ENDPOINT_URL_S3 in the environment is not obeyed" in caplog.text


PUBLIC = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::open/*"}


def test_a_public_bucket_is_refused(seaweed: Any, tmp_path: Path) -> None:
    """A policy for everybody on the real server stops the first write; a policy that names its principals does not."""
    bucket = f"open-{secrets.token_hex(4)}"
    client = s3_client.connect(seaweed.settings(), home=HomeSettings(), env=seaweed.env)
    client.create_bucket(Bucket=bucket)

    def store() -> S3Store:
        return S3Store(seaweed.settings(bucket=bucket), home=HomeSettings(), spool=tmp_path, env=seaweed.env)

    named = {**PUBLIC, "Principal": {"AWS": "arn:aws:iam::000000000000:user/reader"}, "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [named]}))
    assert "names its principals" == store().describe()["policy"]
    public = {**PUBLIC, "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [public]}))
    with pytest.raises(NotAtHome, match=r"public|everybody"):
        store().create("k", b"")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (PUBLIC, ["number 0"]),
        ({**PUBLIC, "Sid": "Open", "Principal": {"AWS": "*"}}, ["Open"]),
        ({**PUBLIC, "Principal": {"AWS": ["arn:aws-cn:iam::1:root", "*"]}}, ["number 0"]),
        ({**PUBLIC, "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, ["number 0"]),
        ({"Effect": "Allow", "NotPrincipal": {"AWS": "x"}, "Action": "*", "Resource": "*"}, ["number 0"]),
        ({**PUBLIC, "Effect": "Deny"}, []),
        ({**PUBLIC, "Principal": {"AWS": "arn:aws-cn:iam::1:root"}}, []),
    ],
)
def test_statements_for_everybody_are_found(statement: Mapping[str, Any], found: list[str]) -> None:
    """Alone or in a list, under a condition or not; a denial is none."""
    assert found == s3_bucket.public_statements(json.dumps({"Statement": statement}))
    assert found == s3_bucket.public_statements(json.dumps({"Statement": [statement]}))


@pytest.mark.parametrize("policy", ["", "no JSON", "[]", "{}", '{"Statement": ["x"]}'])
def test_a_policy_that_cannot_be_read_is_none(policy: str) -> None:
    """Nothing is concluded from it."""
    with pytest.raises(ValueError, match=r"Statement|JSON|value"):
        s3_bucket.public_statements(policy)


def _bucket(**answers: Answer) -> Callable[[str, str], Answer]:
    """A bucket that answers `?name` as given, HEAD with 200, and else that it knows no such thing."""

    def answer(method: str, path: str) -> Answer:
        name = path.partition("?")[2].split("=")[0].split("&")[0]
        return answers.get(name, (200, {}, "") if method == "HEAD" else (501, {}, _error("NotImplemented")))

    return answer


def _replicated(to: str, status: str = "Enabled") -> Answer:
    rule = f"<Rule><ID>r</ID><Status>{status}</Status><Destination><Bucket>arn:aws-cn:s3:::{to}</Bucket></Destination></Rule>"
    return 200, {}, f"<ReplicationConfiguration><Role>r</Role>{rule}</ReplicationConfiguration>"


def _look(server: _Answering, home: HomeSettings = HOME) -> s3_bucket.Findings:
    settings = _settings(server.url)
    return s3_bucket.look(s3_client.connect(settings, home=home, env=KEYS), settings, home=home, staging=".staging/")


def test_replication_abroad_stops_the_first_write(serve: Any, tmp_path: Path) -> None:
    """A rule that is on, to a bucket that nobody listed, is refused before a byte is written; one that is off or listed is not."""
    server = serve(_bucket(replication=_replicated("clips-us")))
    with pytest.raises(NotAtHome, match="replicated to clips-us"):
        _store(server.url, tmp_path).create("k", b"x")
    assert [] == [method for method, _, _ in server.asked if method in {"PUT", "POST"}]
    home = HOME.model_copy(update={"replica_buckets": ("clips-us",)})
    switched_off = serve(_bucket(replication=_replicated("clips-us", "Disabled")))
    for bucket, told in ((server, "to clips-us"), (switched_off, "none")):
        found = s3_bucket._replication(s3_client.connect(_settings(bucket.url), home=HOME, env=KEYS), "clips", home, "store")
        assert told == found


def test_grants_and_public_status_are_refused_where_they_are_told(serve: Any) -> None:
    """The server's own word for public, and a grant to everybody."""
    status = (200, {}, "<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>")
    with pytest.raises(NotAtHome, match="as its server says"):
        _look(serve(_bucket(policyStatus=status)))
    group = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group"'
    everybody = f"<Grantee {group}><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>"
    grant = f"<Grant>{everybody}<Permission>READ</Permission></Grant>"
    grants = f"<AccessControlPolicy><AccessControlList>{grant}</AccessControlList></AccessControlPolicy>"
    with pytest.raises(NotAtHome, match="grants READ to everybody"):
        _look(serve(_bucket(acl=(200, {}, grants))))


def test_what_a_server_does_not_tell_is_said(serve: Any) -> None:
    """Questions that the server does not know, or does not let us ask, are `not told`, never taken for a yes or a no."""
    client = s3_client.connect(_settings(serve(_bucket(policy=(403, {}, _error("AccessDenied")))).url), home=HOME, env=KEYS)
    assert "not told (NotImplemented)" == s3_bucket._replication(client, "clips", HOME, "store")
    assert "not told (AccessDenied)" == s3_bucket._policy(client, "clips", "store")
    assert "not told (NotImplemented)" == s3_bucket._grants(client, "clips", "store")


def test_a_bucket_in_another_region_than_was_said_is_refused() -> None:
    """The region that the bucket itself names must be at home too."""
    told = {"BucketRegion": "us-east-1", "ResponseMetadata": {"HTTPHeaders": {}}}
    with pytest.raises(NotAtHome, match="us-east-1"):
        s3_bucket._region(told, _settings("https://s3.cn-north-1.amazonaws.com.cn"), HOME, "store")
    silent = {"ResponseMetadata": {"HTTPHeaders": {}}}
    assert "not told" == s3_bucket._region(silent, _settings("https://s3.cn-north-1.amazonaws.com.cn"), HOME, "store")


TOML = """
[home]
hosts = ["s3.cn-north-1.amazonaws.com.cn"]
suffixes = [".s3.cn-north-1.amazonaws.com.cn"]
regions = ["cn-north-1"]
[store]
kind = "s3"
endpoint_url = "{url}"
bucket = "clips"
region = "cn-north-1"
profile = "aws"
[store.credentials]
{credentials}
"""
NAMED = 'access_key_variable = "HOME_S3_KEY"\nsecret_key_variable = "HOME_S3_SECRET"'
AWS = "https://s3.cn-north-1.amazonaws.com.cn"


def _wired(work: Path, url: str = AWS, credentials: str = NAMED) -> S3Store:
    (work / "curation.toml").write_text(TOML.format(url=url, credentials=credentials))
    store = wiring.store(read_settings({}, work=work))
    assert isinstance(store, S3Store)
    return store


def test_settings_choose_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kind = "s3"` gives the S3 store, virtual hosts and all, without a request; the guard reads the same settings."""
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingsError, match="HOME_S3_KEY, HOME_S3_SECRET not set"):
        _wired(tmp_path)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    assert AWS == _wired(tmp_path)._settings.endpoint_url
    with pytest.raises(NotAtHome):
        _wired(tmp_path, "https://s3.eu-west-1.amazonaws.com")


@pytest.mark.parametrize(
    ("url", "credentials", "problem"),
    [
        (AWS, 'access_key_variable = "AKIAIOSFODNN7EXAMPLE"\nsecret_key_variable = "HOME_S3_SECRET"', "access_key_variable"),
        (
            AWS,
            'access_key_variable = "HOME_S3_KEY"\nsecret_key_variable = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"',
            "secret_key_variable",
        ),
        (AWS, 'access_key = "x"\nsecret_key = "y"', r"store\..*credentials"),
        ("https://user:secret@s3.cn-north-1.amazonaws.com.cn", NAMED, "endpoint_url"),
        (AWS + "/clips", NAMED, "endpoint_url"),
    ],
)
def test_settings_hold_names_and_never_keys(tmp_path: Path, url: str, credentials: str, problem: str) -> None:
    """A pasted key is refused by the name of its setting and not shown, as is a password in an address."""
    with pytest.raises(SettingsError, match=problem) as refused:
        _wired(tmp_path, url, credentials)
    for secret in ("AKIAIOSFODNN7EXAMPLE", "wJalr", "user:secret"):
        assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (500, "InternalError", True),
        (502, "BadGateway", True),
        (503, "SlowDown", True),
        (408, "RequestTimeout", True),
        (429, "TooManyRequests", True),
        (400, "BadDigest", True),
        (400, "InvalidRequest", False),
        (403, "AccessDenied", False),
        (404, "NoSuchBucket", False),
        (404, "NoSuchKey", False),
        (501, "NotImplemented", False),
    ],
)
def test_a_retry_is_promised_only_where_it_may_help(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, code: str, *, retryable: bool
) -> None:
    """Exit 3 for a server that fails for a while, 1 for what stays so; the server's own words are not repeated."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    body = _error(code).replace("</Error>", "<Message>key AKIAIOSFODNN7EXAMPLE of clips/secret</Message></Error>")
    server = serve(lambda _method, _path: (status, {}, body))
    with pytest.raises(CurationError) as caught:
        _store(server.url, tmp_path).read("k")
    assert (retryable, 3 if retryable else 1) == (caught.value.retryable, caught.value.exit_code)
    assert "AKIA" not in str(caught.value)


def test_a_write_that_is_told_to_wait_waits_and_is_retryable(serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """409 under a condition means that another write has not ended: never that the object is there."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    busy = (409, {}, _error("ConditionalRequestConflict"))
    server = serve(lambda method, _: busy if method == "PUT" else (200, {}, "<ListBucketResult></ListBucketResult>"))
    store = _store(server.url, tmp_path)
    store._findings = s3_bucket.Findings(
        conditional_create=True, conditional_complete=True, region="", replication="", policy="", grants=""
    )  # fmt: skip
    store._folders.add("a")
    with pytest.raises(OutsideError, match="ConditionalRequestConflict"):
        store.create("a/k", b"x")
    assert [b"x"] * 4 == [body for method, _, body in server.asked if method == "PUT"]

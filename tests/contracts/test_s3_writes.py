"""What only a bucket can get wrong: parts, checksums, conditions, claims and broken connections, on a real SeaweedFS."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from curation.adapters import s3_claim, s3_upload
from curation.adapters.store_s3 import S3Store
from curation.errors import ConcurrentChange, CurationError, ImmutableConflict, OutsideError, SettingsError
from curation.settings import MIB, HomeSettings

BUCKET = "clips"
PART_COUNT = 4
BIG_BYTES = (PART_COUNT - 1) * s3_upload.PART_BYTES + 12_345
MULTIPART_FROM_BYTES = 16 * MIB
Make = Callable[..., S3Store]


@pytest.fixture
def prefix() -> str:
    return f"{secrets.token_hex(6)}/"


@pytest.fixture
def make(seaweed, prefix: str, tmp_path: Path) -> Make:
    """Opens stores below one fresh prefix."""

    def open_store(*, conditional: bool = True, env: dict[str, str] | None = None, **changed: object) -> S3Store:
        settings = seaweed.settings(**{"prefix": prefix, **changed})
        return S3Store(
            settings,
            home=HomeSettings(),
            spool=tmp_path / "spool",
            env=env or seaweed.env,
            conditional=conditional,
            multipart_from_bytes=MULTIPART_FROM_BYTES,
        )

    return open_store


@pytest.fixture(scope="module")
def big() -> bytes:
    """More bytes than go into one request, no two parts alike."""
    assert BIG_BYTES > MULTIPART_FROM_BYTES
    return hashlib.shake_256(b"big").digest(BIG_BYTES)


def _uploads(store: S3Store) -> list[str]:
    return [found["Key"] for found in s3_upload._uploads(store._client, BUCKET, store._prefix)]


def _count(store: S3Store, operation: str) -> list[int]:
    """Counts the calls of an operation from now on, those of the probe left out, in the first item."""
    store.describe()
    calls = [0]

    def count(**_: object) -> None:
        calls[0] += 1

    store._client.meta.events.register(f"before-send.s3.{operation}", count)
    return calls


def _ignore_conditions(store: S3Store) -> None:
    """What reaches the server is what an S3 server without conditional writes makes of it."""

    def strip(request, **_: object) -> None:
        del request.headers["If-None-Match"]

    for operation in ("PutObject", "CompleteMultipartUpload"):
        store._client.meta.events.register(f"before-sign.s3.{operation}", strip)


def _damage(store: S3Store) -> None:
    """One byte of every small object is changed after everything was computed over it."""

    def change(request, **_: object) -> None:
        if "/probe-" not in request.url and "/claims/" not in request.url:
            request.body = b"X" + request.body.read()[1:]

    store._client.meta.events.register("before-send.s3.PutObject", change)


@pytest.mark.parametrize("profile", ["seaweedfs", "other"])
def test_a_large_object_goes_in_parts(make: Make, big: bytes, profile: str) -> None:
    """It comes back whole and by range, leaves no upload, is not sent again, and other bytes of its size are a conflict."""
    store = make(profile=profile)
    assert store.create("clips/big.mp4", big) is True
    assert [] == _uploads(store)
    with store.local_path("clips/big.mp4") as path:
        assert hashlib.sha256(big).digest() == hashlib.sha256(path.read_bytes()).digest()
    assert not path.exists()
    edge = s3_upload.PART_BYTES - 5
    assert big[edge : edge + 10] == store.read_range("clips/big.mp4", edge, 10)
    sent = _count(store, "UploadPart")
    assert store.create("clips/big.mp4", big) is False
    with pytest.raises(ImmutableConflict):
        store.create("clips/big.mp4", big[:-1] + b"x")
    assert [0] == sent
    assert [] == _uploads(store)


_KILLED = """
import os, signal, sys
from pathlib import Path
from curation.adapters import s3_upload
from curation.adapters.store_s3 import S3Store
from curation.settings import HomeSettings, S3StoreSettings
settings = S3StoreSettings.model_validate_json(sys.argv[1])
store = S3Store(settings, home=HomeSettings(), spool=Path(sys.argv[2]), multipart_from_bytes=16 * 1024 * 1024)
store.describe()
s3_upload._WORKERS = 1
done = []
def die(**_):
    done.append(1)
    if len(done) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
store._client.meta.events.register("after-call.s3.UploadPart", die)
store.create("clips/big.mp4", Path(sys.argv[3]).read_bytes())
"""


def test_a_killed_upload_is_taken_up_where_it_broke_off(make: Make, seaweed, big: bytes, prefix: str, tmp_path: Path) -> None:
    """After SIGKILL between parts, a rerun sends only the missing ones and leaves no upload behind."""
    (tmp_path / "big").write_bytes(big)
    arguments = [seaweed.settings(prefix=prefix).model_dump_json(), str(tmp_path / "spool"), str(tmp_path / "big")]
    killed = subprocess.run([sys.executable, "-c", _KILLED, *arguments], env={**os.environ, **seaweed.env}, check=False, timeout=60)
    assert -signal.SIGKILL == killed.returncode
    store = make()
    assert [] == list(store.keys(""))
    assert [f"{prefix}clips/big.mp4"] == _uploads(store)
    sent = _count(store, "UploadPart")
    assert store.create("clips/big.mp4", big) is True
    assert [PART_COUNT - 2] == sent
    assert [] == _uploads(store)
    assert hashlib.sha256(big).digest() == hashlib.sha256(store.read("clips/big.mp4")).digest()


def test_another_object_s_parts_are_never_taken_up(make: Make, big: bytes) -> None:
    """An upload of the same key with other bytes is left alone, and ended once the object stands."""
    earlier, other = make(), bytes(reversed(big))
    with _file(other) as file:
        parts = s3_upload.Parts(earlier._client, BUCKET, f"{earlier._prefix}k", file, len(other), crc32=0, checksums=True)
        parts.upload()
    store = make()
    sent = _count(store, "UploadPart")
    assert store.create("k", big) is True
    assert [PART_COUNT] == sent
    assert [] == _uploads(store)
    with pytest.raises(s3_upload.UploadGone):
        parts.complete()
    assert big == store.read("k")


def _file(data: bytes):
    descriptor = os.memfd_create("parts")
    os.write(descriptor, data)
    return os.fdopen(descriptor, "rb")


@pytest.mark.parametrize("conditional", [True, False])
def test_of_two_large_writers_one_wins(make: Make, big: bytes, *, conditional: bool) -> None:
    """Two writers in parts with other bytes: one creates, one is told of the conflict, and no upload is left."""
    contents = [big, bytes(reversed(big))]

    def write(number: int) -> int | None:
        try:
            return number if make(conditional=conditional).create("race", contents[number]) else None
        except ImmutableConflict:
            return None

    with ThreadPoolExecutor(2) as pool:
        winners = [number for number in pool.map(write, range(2)) if number is not None]
    store = make()
    assert 1 == len(winners)
    assert contents[winners[0]] == store.read("race")
    assert [] == _uploads(store)


def test_an_upload_that_nobody_goes_on_with_is_ended_after_a_week(make: Make) -> None:
    """Parts of a clip that vanished from its source do not stay for ever, and a young upload is left alone."""
    store = make()
    key, week_s = f"{store._prefix}gone", 7 * 86_400.0
    upload_id = store._client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    for age_s, left in ((week_s - 60, {key: [upload_id]}), (week_s + 60, {})):
        now_s = time.time() + age_s
        assert left == s3_upload.begun(store._client, BUCKET, store._prefix, staging=store._staging, stale_s=week_s, now_s=now_s)
        assert list(left) == _uploads(store)


def test_a_probe_of_a_process_that_starts_beside_is_left_alone(make: Make) -> None:
    """Its object stands while its upload is under way: ended, it would take conditional writes for missing. A dead one's goes."""
    store = make()
    key = f"{store._staging}probe-beside"
    store._client.put_object(Bucket=BUCKET, Key=key, Body=b"1")
    upload_id = store._client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    for age_s, left in ((500.0, {key: [upload_id]}), (700.0, {})):
        now_s = time.time() + age_s
        assert left == s3_upload.begun(store._client, BUCKET, store._prefix, staging=store._staging, stale_s=7 * 86_400.0, now_s=now_s)


def test_an_upload_of_an_object_that_stands_is_ended_at_the_next_start(make: Make) -> None:
    """What a writer left that was killed beside a quicker one does not wait for its week."""
    store = make()
    store.create("k", b"stands")
    store._client.create_multipart_upload(Bucket=BUCKET, Key=f"{store._prefix}k")
    assert 1 == len(_uploads(store))
    make().describe()
    assert [] == _uploads(store)


def test_more_keys_than_one_page_are_listed_in_order(make: Make) -> None:
    """1,005 keys come over two pages, sorted though the server sorts by folder."""
    store = make()
    keys = sorted([f"k/{number:04d}" for number in range(1000)] + ["k.a", "k/0007.a", "k/0007/a", "k0", "k-a"])

    def put(key: str) -> None:
        store._client.put_object(Bucket=BUCKET, Key=store._prefix + key, Body=b"")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, keys))
    assert keys == list(store.keys(""))
    assert [key for key in keys if key.startswith("k/0")] == list(store.keys("k/0"))


def test_bytes_damaged_on_their_way_are_refused_by_the_server(make: Make) -> None:
    """The checksum that is sent is checked: nothing is stored, and a retry may help."""
    store = make()
    store.describe()
    _damage(store)
    with pytest.raises(OutsideError, match="BadDigest"):
        store.create("k", b"whole")
    assert make().size("k") is None


def test_bytes_damaged_unseen_are_found_by_reading_back(make: Make) -> None:
    """Where the server checks nothing, what was written is read back, and what is damaged is removed."""
    store = make(profile="other")
    store.describe()
    _damage(store)

    def strip(request, **_: object) -> None:
        del request.headers["Content-MD5"]

    store._client.meta.events.register("before-sign.s3.PutObject", strip)
    with pytest.raises(OutsideError, match="damaged"):
        store.create("k", b"whole")
    assert make().size("k") is None


def test_a_server_without_conditions_is_found_out(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The probe sees through a server that ignores conditions and says so; other bytes are refused all the same."""
    store = make()
    _ignore_conditions(store)
    with caplog.at_level(logging.WARNING):
        assert store.create("k", b"first") is True
    assert "each write is claimed first" in caplog.text
    assert store.describe()["written once by"].startswith("claim")
    with pytest.raises(ImmutableConflict):
        store.create("k", b"other")
    assert b"first" == store.read("k")
    assert store.create("k", b"first") is False
    assert ["k"] == list(store.keys(""))


def test_a_server_with_conditions_needs_no_claims(make: Make) -> None:
    """The probe leaves nothing behind and says what holds."""
    store = make()
    assert store.describe()["written once by"].startswith("condition")
    everything = store._client.list_objects_v2(Bucket=BUCKET, Prefix=store._prefix)
    assert 0 == everything["KeyCount"]
    assert [] == _uploads(store)


def test_a_living_claim_holds_others_off_and_a_dead_one_does_not(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer gives up after its patience, retryably; a claim older than any write is removed."""
    store = make(conditional=False)
    folder = f"{store._staging}claims/{hashlib.sha256(f'{store._prefix}k'.encode()).hexdigest()[:32]}/"
    store._client.put_object(Bucket=BUCKET, Key=f"{folder}another", Body=b"")
    monkeypatch.setattr(s3_claim, "_PATIENCE_S", 0.2)
    with pytest.raises(ConcurrentChange, match="claimed"):
        store.create("k", b"x")
    assert store.size("k") is None
    monkeypatch.setattr(s3_claim, "_LEASE_S", -1.0)
    assert store.create("k", b"x") is True
    assert 0 == store._client.list_objects_v2(Bucket=BUCKET, Prefix=store._staging)["KeyCount"]


_CLAIMED = """
import sys
from pathlib import Path
from curation.adapters import s3_claim
from curation.adapters.store_s3 import S3Store
from curation.settings import HomeSettings, S3StoreSettings
store = S3Store(S3StoreSettings.model_validate_json(sys.argv[1]), home=HomeSettings(), spool=Path(sys.argv[2]))
with s3_claim.claim(store._client, store._bucket, store._staging, store._prefix + "k"):
    print("claimed", flush=True)
    sys.stdin.readline()
"""


def test_a_claim_of_a_process_killed_on_this_machine_does_not_count_for_long(
    make: Make, seaweed, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it lives its claim counts, whatever its age; once it was killed a rerun goes on within its patience."""
    monkeypatch.setattr(s3_claim, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(s3_claim, "_ECHO_S", -1.0)
    store = make(conditional=False)
    arguments = [seaweed.settings(prefix=prefix).model_dump_json(), str(tmp_path / "spool")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": {**os.environ, **seaweed.env}}
    with subprocess.Popen([sys.executable, "-c", _CLAIMED, *arguments], **pipes) as process:
        assert process.stdout is not None
        assert "claimed\n" == process.stdout.readline()
        with pytest.raises(ConcurrentChange):
            store.create("k", b"x")
        process.kill()
    assert store.create("k", b"x") is True
    assert 0 == store._client.list_objects_v2(Bucket=BUCKET, Prefix=store._staging)["KeyCount"]


_CLAIMING = """
import sys
from pathlib import Path
from curation.adapters.store_s3 import S3Store
from curation.errors import ImmutableConflict
from curation.settings import HomeSettings, S3StoreSettings
store = S3Store(S3StoreSettings.model_validate_json(sys.argv[1]), home=HomeSettings(), spool=Path(sys.argv[2]), conditional=False)
store.describe()
print("ready", flush=True)
sys.stdin.readline()
won = []
for turn in range(6):
    try:
        if store.create(f"race/{turn}", sys.argv[3].encode()):
            won.append(turn)
    except ImmutableConflict:
        pass
print(won)
"""


def test_what_dead_writers_left_in_staging_is_swept_once_it_is_old(make: Make, prefix: str) -> None:
    """A probe of somebody who may still live stays; a week later it goes. Objects stay."""
    store = make()
    store.create("kept/one", b"1")
    store._client.put_object(Bucket=BUCKET, Key=f"{store._staging}probe-dead", Body=b"1")
    week_s = 7 * 86_400.0
    left = []
    for age_s in (week_s - 60, week_s + 60):
        s3_upload.sweep_staging(store._client, BUCKET, store._staging, older_than_s=week_s, now_s=time.time() + age_s)
        left.append(store._client.list_objects_v2(Bucket=BUCKET, Prefix=store._staging)["KeyCount"])
    assert [1, 0] == left
    assert ["kept/one"] == list(store.keys(""))


def test_an_erased_object_is_gone_with_every_version(make: Make, seaweed, tmp_path: Path) -> None:
    """In a bucket that keeps versions, removal and replacement keep none of the old bytes, and touch no other key."""
    bucket = f"versions-{secrets.token_hex(4)}"
    store = S3Store(seaweed.settings(bucket=bucket), home=HomeSettings(), spool=tmp_path / "spool", env=seaweed.env)
    store._client.create_bucket(Bucket=bucket)
    store._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a/one", "a/one-more"):
        store.create(key, b"first of " + key.encode())

    def versions(key: str) -> list[bytes]:
        found = store._client.list_object_versions(Bucket=bucket, Prefix=key)
        own = [one for one in (*found.get("Versions", []), *found.get("DeleteMarkers", [])) if one["Key"] == key]
        return [store._client.get_object(Bucket=bucket, Key=key, VersionId=one["VersionId"])["Body"].read() for one in own]

    store.replace("a/one", b"scrubbed")
    assert [b"scrubbed"] == versions("a/one")
    store.remove("a/one")
    store.remove("a/one")
    assert [] == versions("a/one")
    assert (None, [b"first of a/one-more"]) == (store.size("a/one"), versions("a/one-more"))


def test_claims_hold_between_processes(make: Make, seaweed, prefix: str, tmp_path: Path) -> None:
    """Two processes with other bytes and no conditions: each object has one creator, and its bytes."""
    arguments = [seaweed.settings(prefix=prefix).model_dump_json(), str(tmp_path / "spool")]
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": {**os.environ, **seaweed.env}}
        commands = [[sys.executable, "-c", _CLAIMING, *arguments, name] for name in ("a", "b")]
        processes = [stack.enter_context(subprocess.Popen(command, **pipes)) for command in commands]
        for process in processes:
            assert process.stdout is not None
            assert "ready\n" == process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        won = {name: eval(process.communicate(timeout=60)[0]) for name, process in zip("ab", processes, strict=True)}  # noqa: S307
    assert list(range(6)) == sorted(won["a"] + won["b"])
    for name, turns in won.items():
        assert [name.encode()] * len(turns) == [make().read(f"race/{turn}") for turn in turns]


@contextlib.contextmanager
def _cutting_relay(port: int, *, after_bytes: int, cuts: int) -> Iterator[int]:
    """The port of a relay that breaks the first `cuts` long answers off."""
    left, threads, ends = [cuts], [], []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
                passed += len(data)
                if answers and left[0] and passed > after_bytes:
                    left[0] -= 1
                    break
        _shut(source, sink)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                for pair, answers in (((near, far), False), ((far, near), True)):
                    threads.append(threading.Thread(target=pump, args=pair, kwargs={"answers": answers}))
                    threads[-1].start()

    threads.append(threading.Thread(target=serve))
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        _shut(listener, *ends)
        for thread in threads:
            thread.join(5)
        for end in (listener, *ends):
            end.close()


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def test_a_broken_download_goes_on_where_it_broke_off(make: Make, seaweed) -> None:
    """Two cuts in the middle cost two ranged requests, not the object."""
    data = hashlib.shake_256(b"medium").digest(6 * MIB)
    make().create("k", data)
    with _cutting_relay(int(seaweed.url.rsplit(":", 1)[1]), after_bytes=3 * MIB // 2, cuts=2) as port:
        store = make(endpoint_url=f"http://127.0.0.1:{port}")
        with store.local_path("k") as path:
            assert data == path.read_bytes()
    with _cutting_relay(int(seaweed.url.rsplit(":", 1)[1]), after_bytes=MIB // 2, cuts=99) as port:
        store = make(endpoint_url=f"http://127.0.0.1:{port}")
        with pytest.raises(OutsideError, match="way to the store"):
            store.read("k")


def test_a_server_that_is_gone_is_the_outside_failing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: retryable, with the fix."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(OutsideError, match="Fix"):
        make(endpoint_url=f"http://127.0.0.1:{port}").create("k", b"")


def test_wrong_keys_are_final_and_never_shown(make: Make, seaweed, caplog: pytest.LogCaptureFixture) -> None:
    """A refused signature says whose settings to see to; no key is in any message or log, not even in botocore's own at its loudest."""
    wrong = {**seaweed.env, "HOME_S3_SECRET": "not-the-secret-of-this-key"}
    with caplog.at_level(logging.DEBUG), pytest.raises(CurationError, match="credentials") as refused:
        make(env=wrong).create("k", b"")
    assert not refused.value.retryable
    assert "not-the-secret" not in f"{caplog.text}{refused.value}{refused.value.__cause__}"


def test_credentials_that_are_not_there_are_named_not_guessed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable's name is in the error, and keys of another name in the environment are not taken instead."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "else")
    with pytest.raises(SettingsError, match="HOME_S3_KEY"):
        make(env={"HOME_S3_SECRET": "x"})


def test_a_named_profile_gives_keys_and_nothing_else(make: Make, seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys come from the AWS files; region, endpoint and acceleration that stand beside them are not obeyed."""
    keys = f"aws_access_key_id = {seaweed.env['HOME_S3_KEY']}\naws_secret_access_key = {seaweed.env['HOME_S3_SECRET']}\n"
    elsewhere = "region = us-east-1\nendpoint_url = http://127.0.0.1:9\ns3 =\n  use_accelerate_endpoint = true\n"
    (tmp_path / "config").write_text(f"[profile home]\n{keys}{elsewhere}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    store = make(credentials={"named_profile": "home"})
    assert store.create("k", b"x") is True
    with pytest.raises(SettingsError, match="no such profile"):
        make(credentials={"named_profile": "other"})


def test_a_bucket_that_is_not_there_is_final(make: Make) -> None:
    """No bucket is ever made by the way."""
    with pytest.raises(CurationError, match="make the bucket"):
        make(bucket="nowhere").create("k", b"")


def test_a_certificate_of_an_unknown_authority_is_refused(seaweed_tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the right ca_bundle nothing is sent, even where the environment names one."""
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(seaweed_tls.ca_bundle))
    store = S3Store(seaweed_tls.settings(ca_bundle=None), home=HomeSettings(), spool=tmp_path, env=seaweed_tls.env)
    with pytest.raises(CurationError, match="certificate"):
        store.create("k", b"")
    with pytest.raises(SettingsError, match="ca_bundle"):
        S3Store(seaweed_tls.settings(ca_bundle=tmp_path / "none"), home=HomeSettings(), spool=tmp_path, env=seaweed_tls.env)


def test_what_a_killed_writer_spooled_is_swept(make: Make, tmp_path: Path) -> None:
    """A local file that nobody holds any more goes once it is a minute old."""
    spool = tmp_path / "spool"
    spool.mkdir()
    for name in ("old", "young"):
        (spool / name).write_bytes(b"left behind")
    os.utime(spool / "old", (time.time() - 3600,) * 2)
    make().create("k", b"")
    assert ["young"] == [path.name for path in spool.iterdir()]


def test_erasure_removes_and_replaces(make: Make) -> None:
    """Removing twice is removing once; nothing is replaced where nothing stands."""
    store = make()
    store.create("a", b"old")
    store.replace("a", b"newer")
    assert b"newer" == store.read("a")
    store.remove("a")
    store.remove("a")
    assert [] == list(store.keys(""))
    with pytest.raises(CurationError, match="no such object"):
        store.replace("a", b"1")

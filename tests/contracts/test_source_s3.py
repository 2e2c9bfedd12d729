"""A prefix of a bucket holds the source contract on a real SeaweedFS, and what only a bucket can get wrong."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from curation.adapters import s3_client
from curation.adapters.source_s3 import S3Source
from curation.errors import CurationError, NotAtHome, SettingsError, SourceUnreachable
from curation.settings import HomeSettings, S3SourceSettings

_spec = util.spec_from_file_location("source_contract", Path(__file__).parents[1] / "sources" / "source_contract.py")
assert _spec is not None
assert _spec.loader is not None
_contract = util.module_from_spec(_spec)
_spec.loader.exec_module(_contract)


class BucketPlace:
    """A prefix of a bucket of its own."""

    def __init__(self, seaweed: Any, prefix: str = "incoming/2026/") -> None:
        self.bucket = f"source-{secrets.token_hex(6)}"
        self.prefix = prefix
        self.env = seaweed.env
        store = seaweed.settings(bucket=self.bucket)
        self._values = {**store.model_dump(), "prefix": prefix}
        self.client = s3_client.connect(store, home=HomeSettings(), env=seaweed.env)
        self.client.create_bucket(Bucket=self.bucket)
        self.client.put_object(Bucket=self.bucket, Key="elsewhere.mp4", Body=b"not of this source")

    def settings(self, **changed: Any) -> S3SourceSettings:
        return S3SourceSettings.model_validate({**self._values, **changed})

    def put(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def take_away(self) -> None:
        for key in self.keys():
            self.client.delete_object(Bucket=self.bucket, Key=key)
        self.client.delete_bucket(Bucket=self.bucket)

    def contents(self) -> Mapping[str, bytes]:
        return {
            key.removeprefix(self.prefix): self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
            for key in self.keys(self.prefix)
        }

    def source(self, **options: Any) -> S3Source:
        return S3Source("s", self.settings(), home=HomeSettings(), env=self.env, pull=options.pop("settings", None), **options)


@pytest.fixture
def bucket(seaweed: Any) -> Iterator[BucketPlace]:
    place = BucketPlace(seaweed)
    yield place
    if any(found["Name"] == place.bucket for found in place.client.list_buckets()["Buckets"]):
        place.take_away()


class TestS3(_contract.SourceContract):
    """A prefix of a bucket."""

    keeps_backslashes = False  # SeaweedFS makes slashes of them

    @pytest.fixture
    def place(self, bucket: BucketPlace) -> BucketPlace:
        return bucket


def test_more_objects_than_one_page_holds_are_all_listed(bucket: BucketPlace) -> None:
    """The listing goes on page by page, here of two keys each, and nothing outside the prefix is in it."""
    for number in range(5):
        bucket.put(f"{number}.mp4", b"")
    source = bucket.source()
    pages: list[object] = []

    def small(params: dict[str, object], **_: object) -> None:
        pages.append(params.setdefault("MaxKeys", 2))

    source._client.meta.events.register("before-parameter-build.s3.ListObjectsV2", small)
    assert [f"{number}.mp4" for number in range(5)] == [entry.name for entry in source.entries()]
    assert [2, 2, 2] == pages


def test_a_source_over_tls_is_read(seaweed_tls: Any) -> None:
    """With the authority that the settings name, the same; without it, the place is out of reach."""
    place = BucketPlace(seaweed_tls)
    place.put("a.mp4", b"video")
    assert ["a.mp4"] == [entry.name for entry in place.source().entries()]
    blind = S3Source("s", place.settings(ca_bundle=None), home=HomeSettings(), env=place.env)
    with pytest.raises(SourceUnreachable, match="certificate is not accepted"):
        list(blind.entries())


def test_a_bucket_elsewhere_or_without_keys_is_refused(bucket: BucketPlace) -> None:
    """An endpoint that is not on the home allow-list, missing credentials, and keys that the server does not know."""
    with pytest.raises(NotAtHome):
        S3Source("s", bucket.settings(endpoint_url="https://s3.eu-west-1.amazonaws.com"), home=HomeSettings(), env=bucket.env)
    with pytest.raises(SettingsError):
        S3Source("s", bucket.settings(), home=HomeSettings(), env={})
    stranger = S3Source("s", bucket.settings(), home=HomeSettings(), env=dict.fromkeys(bucket.env, "x" * 20))
    with pytest.raises(SourceUnreachable, match="answers 403"):
        list(stranger.entries())


class _Answers:
    """A client whose answers break off."""

    def __init__(self, client: Any, *, cut_bytes: int | None = None) -> None:
        self._client = client
        self._cut_bytes = cut_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_object(self, **asked: Any) -> Any:
        answer = self._client.get_object(**asked)
        chunks = iter([answer["Body"].read()[: self._cut_bytes], b""])
        return {**answer, "Body": _Body(chunks)}


class _Body:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, _: int) -> bytes:
        return next(self._chunks)


def test_an_answer_that_breaks_off_is_tried_again(bucket: BucketPlace) -> None:
    """Fewer bytes than listed are a failure that a retry may mend, never a clip."""
    bucket.put("a.mp4", b"video of some length")
    source = bucket.source()
    (entry,) = source.entries()
    source._client = _Answers(source._client, cut_bytes=5)
    with pytest.raises(CurationError, match="gave 5 of 20 bytes") as caught, source.open(entry) as chunks:
        list(chunks)
    assert caught.value.retryable


def test_a_frozen_object_is_refused_with_its_class(bucket: BucketPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of an archive class cannot be read until they are restored, and the listing says so."""
    bucket.put("a.mp4", b"video")
    source = bucket.source()
    pages = [
        {"Contents": [{**item, "StorageClass": "DEEP_ARCHIVE"} for item in page["Contents"]]}
        for page in source._client.get_paginator("list_objects_v2").paginate(Bucket=bucket.bucket, Prefix=bucket.prefix)
    ]
    monkeypatch.setattr(source._client, "get_paginator", lambda _: SimpleNamespace(paginate=lambda **_: iter(pages)))
    assert [("refused", "rests in storage class DEEP_ARCHIVE: restore it first")] == [(one.kind, one.reason) for one in source.entries()]

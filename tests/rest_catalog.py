"""A real overseas REST catalog with its table made by an administrator, and a publisher and a reader with no more rights than they need."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3

from curation import schema
from curation.adapters.catalog_overseas import IcebergOverseas
from curation.errors import OutsideError
from curation.settings import OverseasCatalogSettings
from tests import seaweed

TABLE = "published.clips"
BUCKET = "warehouse"
USERS = {"publisher": [f"{right}:{BUCKET}" for right in ("Read", "List", "Write")], "reader": [f"Read:{BUCKET}", f"List:{BUCKET}"]}
_READ = ("GetTable", "ListTables", "GetNamespace", "ListNamespaces", "GetTableBucket", "GetTableMetadataLocation", "GetTableData")
_READY_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Overseas:
    """A running server and the folder of its users' key files."""

    server: seaweed.Server
    folder: Path

    def settings(self, user: str, *, secret: str | None = None) -> OverseasCatalogSettings:
        """The catalog under a user's keys, which are written into a file of their own."""
        access, secret = self.server.env[f"{user.upper()}_S3_KEY"], secret or self.server.env[f"{user.upper()}_S3_SECRET"]
        key_file = self.folder / f"{user}.toml"
        key_file.touch(mode=0o600)
        key_file.write_text(f'credential = "{access}:{secret}"\n"s3.access-key-id" = "{access}"\n"s3.secret-access-key" = "{secret}"\n')
        return OverseasCatalogSettings.model_validate(
            {
                "name": "overseas",
                "uri": self.server.iceberg_url,
                "location": f"s3://{BUCKET}",
                "warehouse": self.folder / "unused",
                "properties": {
                    "s3.endpoint": self.server.url,
                    "s3.region": "us-east-1",
                    "oauth2-server-uri": f"{self.server.iceberg_url}/v1/oauth/tokens",
                },
                "key_file": key_file,
            }
        )

    def catalog(self, user: str) -> IcebergOverseas:
        """The catalog as a user opens it."""
        return IcebergOverseas(self.settings(user), {TABLE: schema.RELEASE})


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Overseas]:
    """The catalog with an empty table; stopped on exit."""
    with seaweed.running(folder, users=USERS, table_bucket=BUCKET) as server:
        keys = folder / "keys"
        keys.mkdir()
        overseas = Overseas(server=server, folder=keys)
        _make_table(overseas.catalog("home"))
        _grant(server)
        yield overseas


def _make_table(catalog: IcebergOverseas) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        try:
            catalog.make(TABLE)
        except OutsideError:  # the table bucket comes a moment after the server
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _grant(server: seaweed.Server) -> None:
    client = boto3.client(
        "s3tables", endpoint_url=server.url, region_name="us-east-1",
        aws_access_key_id=server.env["HOME_S3_KEY"], aws_secret_access_key=server.env["HOME_S3_SECRET"],
    )  # fmt: skip
    [arn] = [bucket["arn"] for bucket in client.list_table_buckets()["tableBuckets"]]

    def allow(user: str, actions: Sequence[str]) -> dict[str, object]:
        named = [f"s3tables:{action}" for action in actions]
        return {"Effect": "Allow", "Principal": {"AWS": user}, "Action": named, "Resource": [arn, f"{arn}/*"]}

    statements = [allow("reader", _READ), allow("publisher", [*_READ, "UpdateTable"])]
    client.put_table_bucket_policy(tableBucketARN=arn, resourcePolicy=json.dumps({"Version": "2012-10-17", "Statement": statements}))

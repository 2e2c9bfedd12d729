"""What a bucket says of itself before the first write: whether it stays home and private, and whether it keeps what it wrote once."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from curation.adapters.s3_client import code_of, outside, status_of
from curation.errors import NotAtHome
from curation.residency.jurisdiction import is_loopback, require_home
from curation.settings import HomeSettings, S3StoreSettings

log = logging.getLogger(__name__)

NOT_TOLD: Final = "not told"
REFUSED_BY_CONDITION: Final = frozenset({409, 412})
_EVERYBODY: Final = ("http://acs.amazonaws.com/groups/global/AllUsers", "http://acs.amazonaws.com/groups/global/AuthenticatedUsers")
_NONE_SET: Final = frozenset({"NoSuchBucketPolicy", "ReplicationConfigurationNotFoundError", "NoSuchReplicationConfiguration"})
_PASSING: Final = frozenset({"NoSuchBucket"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the probe found. `conditional_create` and `conditional_complete`: a write with If-None-Match leaves what is there alone."""

    conditional_create: bool
    conditional_complete: bool
    region: str
    replication: str
    policy: str
    grants: str

    @property
    def conditional(self) -> bool:
        """Whether every kind of write can be made once by the server; else claims serve for all, since the two kinds may not be mixed."""
        return self.conditional_create and self.conditional_complete


def look(client: Any, settings: S3StoreSettings, *, home: HomeSettings, staging: str) -> Findings:
    """What the bucket says; where its server does not answer a question, `not told`.

    Raises:
        NotAtHome: the bucket lies in a region abroad, is replicated to a bucket that is not listed as home, or is open to everybody.
        OutsideError: the server failed.
        CurationError: there is no such bucket, or these credentials may not write to it.
    """
    subject = f"store bucket {settings.bucket}"
    with outside(subject, home=home):
        found = client.head_bucket(Bucket=settings.bucket)
        region = _region(found, settings, home, subject)
        replication = _replication(client, settings.bucket, home, subject)
        policy = _policy(client, settings.bucket, subject)
        grants = _grants(client, settings.bucket, subject)
        create, complete = _conditions(client, settings.bucket, staging)
    findings = Findings(
        conditional_create=create, conditional_complete=complete, region=region, replication=replication, policy=policy, grants=grants
    )
    if not findings.conditional:
        log.warning(
            "bucket %s does not keep objects by condition (create %s, complete %s): each write is claimed first (docs/storage.md)",
            settings.bucket, create, complete,
        )  # fmt: skip
    return findings


def public_statements(policy: str) -> Sequence[str]:
    """Names (or numbers) of the statements of a bucket policy that allow something to everybody, conditions or not.

    Raises:
        ValueError: the text is no policy.
    """
    try:
        statements = json.loads(policy)["Statement"]
    except (KeyError, TypeError) as error:
        raise ValueError("has no Statement") from error
    found = []
    for number, statement in enumerate([statements] if isinstance(statements, dict) else statements):
        if not isinstance(statement, dict):
            raise ValueError("has a Statement that is no object")  # noqa: TRY004  # it is the text that is wrong
        if statement.get("Effect") == "Allow" and ("NotPrincipal" in statement or _is_everybody(statement.get("Principal"))):
            found.append(str(statement.get("Sid") or f"number {number}"))
    return found


def _is_everybody(principal: object) -> bool:
    if isinstance(principal, Mapping):
        return any(_is_everybody(one) for one in principal.values())
    if isinstance(principal, list):
        return any(_is_everybody(one) for one in principal)
    return principal == "*"


def _region(found: Mapping[str, Any], settings: S3StoreSettings, home: HomeSettings, subject: str) -> str:
    told = found.get("BucketRegion") or found["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    if not told:
        return NOT_TOLD
    if not is_loopback(settings.endpoint_url):
        require_home(
            subject=subject,
            jurisdiction=settings.jurisdiction,
            home_jurisdiction=home.jurisdiction,
            url=settings.endpoint_url,
            region=str(told),
            home=home,
        )
    return str(told)


def _replication(client: Any, bucket: str, home: HomeSettings, subject: str) -> str:
    told = _ask(lambda: client.get_bucket_replication(Bucket=bucket))
    if not isinstance(told, Mapping):
        return told
    rules = told.get("ReplicationConfiguration", {}).get("Rules", [])
    targets = {str(rule.get("Destination", {}).get("Bucket", "")).rsplit(":", 1)[-1] for rule in rules if rule.get("Status") != "Disabled"}
    abroad = sorted(targets - set(home.replica_buckets))
    if abroad:
        raise NotAtHome(
            f"is replicated to {', '.join(abroad) or 'a bucket without a name'}, which is not known to be at home",
            subject=subject,
            fix="switch replication off, or add the bucket to replica_buckets in [home] if it is at home",
        )
    return f"to {', '.join(sorted(targets))}" if targets else "none"


def _policy(client: Any, bucket: str, subject: str) -> str:
    fix = "name principals in the bucket's policy"
    status = _ask(lambda: client.get_bucket_policy_status(Bucket=bucket))
    if isinstance(status, Mapping) and status.get("PolicyStatus", {}).get("IsPublic"):
        raise NotAtHome("has a policy that makes it public, as its server says", subject=subject, fix=fix)
    told = _ask(lambda: client.get_bucket_policy(Bucket=bucket))
    if not isinstance(told, Mapping):
        return told
    try:
        public = public_statements(told["Policy"])
    except ValueError as error:
        raise NotAtHome("has a policy that cannot be read", subject=subject, fix="set a policy in JSON, or none") from error
    if public:
        raise NotAtHome(f"has a policy that allows something to everybody ({', '.join(public)})", subject=subject, fix=fix)
    return "names its principals"


def _grants(client: Any, bucket: str, subject: str) -> str:
    told = _ask(lambda: client.get_bucket_acl(Bucket=bucket))
    if not isinstance(told, Mapping):
        return told
    open_to = [grant["Permission"] for grant in told.get("Grants", []) if grant.get("Grantee", {}).get("URI") in _EVERYBODY]
    if open_to:
        raise NotAtHome(f"grants {', '.join(open_to)} to everybody", subject=subject, fix="make the bucket private")
    return "to named users"


def _ask(question: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any] | str:
    """The answer, `none` where nothing is set, `not told` where the server does not know the question or does not let us ask."""
    try:
        return question()
    except ClientError as error:
        if code_of(error) in _NONE_SET:
            return "none"
        if code_of(error) in _PASSING or (status_of(error) >= 500 and status_of(error) != 501):  # 501: not implemented
            raise
        return f"{NOT_TOLD} ({code_of(error)})"


def _conditions(client: Any, bucket: str, staging: str) -> tuple[bool, bool]:
    """Whether a second write of a throw-away object is refused, when it is put and when it is completed from parts."""
    key = f"{staging}probe-{secrets.token_hex(8)}"
    client.put_object(Bucket=bucket, Key=key, Body=b"1")
    try:
        create = _is_refused(lambda: client.put_object(Bucket=bucket, Key=key, Body=b"2", IfNoneMatch="*"))
        with upload(client, bucket, key) as upload_id:
            part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=1, Body=b"3")
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            complete = _is_refused(
                lambda: client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload=parts, IfNoneMatch="*")
            )
        kept = client.get_object(Bucket=bucket, Key=key)["Body"].read() == b"1"
    finally:
        client.delete_object(Bucket=bucket, Key=key)
    return create and kept, complete and kept


@contextmanager
def upload(client: Any, bucket: str, key: str) -> Iterator[str]:
    """The id of a multipart upload that is gone afterwards unless it was completed."""
    upload_id = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    try:
        yield upload_id
    finally:
        abort(client, bucket, key, upload_id)


def abort(client: Any, bucket: str, key: str, upload_id: str) -> None:
    """End a multipart upload and drop its parts; one that is over already stays so."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if code_of(error) != "NoSuchUpload":
            raise


def _is_refused(write: Callable[[], object]) -> bool:
    """Whether the server refused for the condition; a server that does not know conditions answers otherwise, or writes."""
    try:
        write()
    except ClientError as error:
        if status_of(error) in REFUSED_BY_CONDITION:
            return True
        if status_of(error) >= 500 and status_of(error) != 501:  # 501: not implemented
            raise
    return False

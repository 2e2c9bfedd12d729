"""The assets by which DAGs meet, and the key under which they meet: one partition per batch."""

from __future__ import annotations

import re

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException

MANIFEST = Asset(name="manifest", uri="curation://manifests")
CURATED = Asset(name="curated_clips", uri="curation://curated/clips")

_BATCH_ID = re.compile(r"[\w.-]{1,128}-[0-9a-f]{16}")  # `<source>-<16 hex of the listing's digest>`


def batch_of(partition_key: str | None) -> str:
    """The batch id that a run's partition key names.

    Anyone who may write asset events may write any text as a key, so the text is looked at before it is used, and never repeated in a log.

    Raises:
        AirflowFailException: the run has no key, or the key has not the shape of a batch id.
    """
    if partition_key is None:
        raise AirflowFailException("this run names no batch. Fix: give the batch id as the run's partition key")
    if not _BATCH_ID.fullmatch(partition_key):
        raise AirflowFailException("the run's partition key is no batch id. Fix: copy the batch id from the grid of ingest_clips")
    return partition_key

"""The officer's form tells counters that come close to their limits, and says nothing of those that do not."""

import ast
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

DAG = Path(__file__).resolve().parents[2] / "dags" / "publish_metadata.py"
SUMMARY = {
    "rows": 2,
    "withheld": 1,
    "recipient": "overseas",
    "purpose": "test",
    "rules": {"combination.k": 1},
    "columns": [{"column": "province", "rule": "output.province"}],
    "release_digest": "a",
    "evidence_digest": "b",
    "pack_digest": "c",
}


@pytest.fixture
def form():
    """Renders the form of a release's summary as Airflow's templates do; the text is read from the DAG's source, without Airflow."""
    [text] = [
        node.value.value
        for node in ast.parse(DAG.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and node.targets[0].id == "BODY"
    ]
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False).from_string(text)  # noqa: S701 - Markdown

    def render(summary):
        run = SimpleNamespace(triggering_user_name=None)
        return template.render(release_summary=lambda _: summary, ti=SimpleNamespace(xcom_pull=lambda **_: "r"), dag_run=run)

    return render


def test_counters_close_to_their_limits_are_told(form):
    """One that warns stands with its figures; one that is open does not."""
    near = {"counter": "counter.near", "after": 80, "limit": 100, "level": "warn"}
    page = form({**SUMMARY, "counters": [near, {**near, "counter": "counter.far", "after": 1, "level": "open"}]})
    assert "| counter.near | 80 of 100 | warn |" in page
    assert "counter.far" not in page


def test_without_any_the_form_is_as_before(form):
    """No counter near its limit: no table of them."""
    assert "close to its limit" not in form({**SUMMARY, "counters": []})
    assert "| province | output.province |" in form(SUMMARY)

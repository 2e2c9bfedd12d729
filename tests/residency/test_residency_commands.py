"""`curation residency`: keys, signatures, lint, the lawyer's page, and a check that writes only what may leave."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation.cli_residency import app
from curation.errors import CurationError, PackRefused, UsageError
from curation.residency import signing
from curation.residency.explain import explain
from curation.residency.gate import check_table
from curation.residency.pack import Pack
from curation.schema import CLIPS, DECISIONS, RELEASE
from curation.tables import to_parquet

Row = dict[str, Any]
Signed = Callable[[Pack], tuple[list[signing.Signature], dict[str, list[str]]]]
ENTRY = ["--number", "1", "--limit", "9", "--key", "legal.key"]
runner = CliRunner()


def _run(*words: object) -> str:
    result = runner.invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


@pytest.fixture
def desk(
    tmp_path: Path, pack_bytes: Callable[[str], bytes], fences: bytes, clip_row: Callable[..., Row], clips: Callable[..., pa.Table]
) -> Path:
    """A folder with the demo pack, fences and a manifest of two good clips and a rejected one."""
    (tmp_path / "pack.yaml").write_bytes(pack_bytes("cn-demo"))
    (tmp_path / "fences.geojson").write_bytes(fences)
    rows = clips(clip_row(1), clip_row(2), clip_row(3, verdict="rejected"))
    (tmp_path / "clips.parquet").write_bytes(to_parquet(rows, CLIPS))
    return tmp_path


def _sign_all(desk: Path) -> None:
    trusted = {}
    for role in signing.ROLES:
        trusted[role] = [json.loads(_run("keygen", "--out", desk / f"{role}.key", "--json"))["public_key"]]
        _run("sign", desk / "pack.yaml", "--role", role, "--key", desk / f"{role}.key")
    (desk / "trusted.json").write_text(json.dumps(trusted), encoding="ascii")


def _check(desk: Path, *more: object) -> str:
    words = ["check", desk / "clips.parquet", "--pack", desk / "pack.yaml", "--trusted", desk / "trusted.json", "--out", desk / "out"]
    return _run(*words, "--as-of", "2026-11-21", *more)


def test_check_releases_under_three_signatures(desk: Path) -> None:
    """Keys, signatures and check together write a release that the gate passes, and a decision for every row."""
    _sign_all(desk)
    facts = json.loads(_check(desk, "--fences", desk / "fences.geojson", "--demo", "--json"))
    assert (3, 2, 1, {"row.accepted": 1}) == (facts["rows_in"], facts["released"], facts["withheld"], facts["rules"])
    release = pq.read_table(desk / "out" / "release.parquet")
    check_table(release, pq.read_table(desk / "clips.parquet"))
    assert sorted(release["release_row_id"].to_pylist()) == release["release_row_id"].to_pylist()
    decisions = pq.read_table(desk / "out" / "decisions.parquet")
    assert (DECISIONS, 3) == (decisions.schema, decisions.num_rows)


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--demo"], "no fences file"),
        (["--fences", "fences.geojson"], "is a demo pack"),
        (["--fences", "fences.geojson", "--demo", "--as-of", "2028-01-01"], "expired"),
        (["--fences", "fences.geojson", "--demo", "--as-of", "2025-01-01"], "is not valid before"),
    ],
)
def test_refused_check_withholds_everything(more: list[str], named: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal removes an older release, withholds every row under `pack.refused`, and exits 1 with the reason."""
    _sign_all(desk)
    _check(desk, "--fences", desk / "fences.geojson", "--demo")
    monkeypatch.chdir(desk)
    with pytest.raises(PackRefused, match=named) as refusal:
        _check(desk, *more)
    assert 1 == refusal.value.exit_code
    assert not (desk / "out" / "release.parquet").exists()
    assert [["pack.refused"]] * 3 == pq.read_table(desk / "out" / "decisions.parquet")["withheld_by"].to_pylist()


def test_missing_pack_releases_nothing(desk: Path) -> None:
    """A pack that is not there is a pack that lets nothing out: exit 1, and every row withheld."""
    _sign_all(desk)
    (desk / "pack.yaml").unlink()
    with pytest.raises(PackRefused, match="there is no such pack") as refusal:
        _check(desk, "--fences", desk / "fences.geojson", "--demo")
    assert 1 == refusal.value.exit_code
    assert [["pack.refused"]] * 3 == pq.read_table(desk / "out" / "decisions.parquet")["withheld_by"].to_pylist()


def test_unsigned_pack_releases_nothing(desk: Path) -> None:
    """Without signatures nothing leaves, trusted keys or not."""
    (desk / "trusted.json").write_text("{}", encoding="ascii")
    with pytest.raises(PackRefused, match="is unsigned"):
        _check(desk, "--fences", desk / "fences.geojson", "--demo")


def test_private_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    """A key file is readable by its owner alone, and a second keygen refuses to replace it."""
    _run("keygen", "--out", tmp_path / "a.key")
    assert 0o600 == stat.S_IMODE((tmp_path / "a.key").stat().st_mode)
    with pytest.raises(UsageError):
        _run("keygen", "--out", tmp_path / "a.key")


def test_signing_again_replaces_ones_own_signature(desk: Path) -> None:
    """The signatures file holds one signature per role and key."""
    _sign_all(desk)
    _run("sign", desk / "pack.yaml", "--role", "legal", "--key", desk / "legal.key")
    assert 3 == len(json.loads((desk / "pack.yaml.signatures.json").read_text(encoding="ascii")))


@pytest.mark.parametrize(
    "words",
    [
        ["sign", "pack.yaml", "--role", "boss", "--key", "x"], ["lint", "nowhere.yaml"], ["explain", "pack.yaml", "--lang", "fr"],
        ["check", "clips.parquet", "--pack", "pack.yaml", "--out", "out", "--as-of", "today"],
    ],
)  # fmt: skip
def test_wrong_use_exits_two(words: list[str], desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown roles, files, languages and days are wrong use."""
    monkeypatch.chdir(desk)
    with pytest.raises(UsageError) as refusal:
        _run(*words)
    assert 2 == refusal.value.exit_code


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["lint", "words.txt"], "words.txt: holds no pack"),
        (["lint", "clips.parquet"], "clips.parquet: is not UTF-8"),
        (["sign", "pack.yaml", "--role", "legal", "--key", "words.txt"], "words.txt: is no Ed25519 private key"),
        (["explain", "pack.yaml", "--signatures", "words.txt"], "words.txt: "),
        (["check", "words.txt", "--pack", "pack.yaml", "--out", "out"], "words.txt: is not readable Parquet"),
        (["check", "clips.parquet", "--pack", "words.txt", "--out", "out"], "words.txt: holds no pack"),
        (
            [
                "check",
                "clips.parquet",
                "--pack",
                "pack.yaml",
                "--out",
                "out",
                "--trusted",
                "trusted.json",
                "--demo",
                "--fences",
                "words.txt",
            ],
            "words.txt: is not JSON",
        ),
        (["check", "clips.parquet", "--pack", "pack.yaml", "--out", "out", "--demo"], "name its public half among the trusted keys"),
        (
            ["assess", "pack.yaml", "--counter", "x", *ENTRY, "--expires", "2027-01-01"],
            "has no counter 'x'",
        ),
        (
            ["assess", "pack.yaml", "--counter", "x", *ENTRY, "--expires", "soon"],
            "--expires: 'soon' is no",
        ),
    ],
)
def test_an_error_names_the_file_that_was_given(words: list[str], named: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gave a wrong file reads its name and what it was taken for."""
    monkeypatch.chdir(desk)
    _sign_all(desk)
    Path("words.txt").write_text("hello\n", encoding="ascii")
    with pytest.raises(CurationError) as refusal:
        _run(*words, *(["--as-of", "2026-11-21"] if words[0] == "check" else []))
    assert named in str(refusal.value)


def test_lint_says_that_every_column_is_accounted_for(desk: Path) -> None:
    """Lint of a shipped pack prints its rules and digest, and refuses a broken one."""
    assert f"account for all {len(CLIPS)} columns" in _run("lint", desk / "pack.yaml")
    (desk / "pack.yaml").write_text("id: x\n", encoding="ascii")
    with pytest.raises(PackRefused):
        _run("lint", desk / "pack.yaml")


@pytest.mark.parametrize(("lang", "denies", "never"), [("en", "nothing leaves", "What never leaves"), ("zh", "不得出境", "绝不以原样出境")])
def test_page_tells_a_lawyer_everything(lang: Any, denies: str, never: str, base_pack: Pack, signed: Signed) -> None:
    """The page names every output, column, source and signature, in both languages; unsigned it says that nothing leaves."""
    unsigned = explain(base_pack, signing.verify(base_pack, [], {}), lang)
    assert denies in unsigned.split("##")[1]
    signatures, trusted = signed(base_pack)
    page = explain(base_pack, signing.verify(base_pack, signatures, trusted), lang)
    assert denies not in page.split("##")[1]
    assert never in page
    for word in (
        *RELEASE.names[1:],
        *(s.id for s in base_pack.sources),
        *CLIPS.names,
        "2027-02-18",
        *(s.public_key[:16] for s in signatures),
    ):
        assert word in page


def test_page_of_the_demo_pack_says_that_it_is_no_law(desk: Path) -> None:
    """Nobody mistakes the demo's page for law."""
    assert "This pack is no law" in _run("explain", desk / "pack.yaml")
    assert "不具法律效力" in _run("explain", desk / "pack.yaml", "--lang", "zh")

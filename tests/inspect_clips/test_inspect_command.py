"""`curation inspect` on whatever people hand it: exit codes, a row for each file, the table, the depths and the sheet."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from curation import cli_text
from curation.cli import app
from curation.errors import UsageError
from curation.schema import CLIPS, SIGNALS
from curation.signals import sheet
from curation.signals.openlabel import ONTOLOGY


def _told(*arguments: object) -> list[dict]:
    done = CliRunner().invoke(app, ["inspect", *map(str, arguments), "--json"])
    assert (0, "") == (done.exit_code, done.stderr), done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def _problem(error: str) -> str:
    """The error without its subject and its fix."""
    return error.split(". Fix", maxsplit=1)[0].split(": ", 1)[1]


@pytest.fixture
def bag(scene: Callable, encode: Callable, tmp_path: Path) -> Path:
    """A folder of one good clip and all that goes by a clip's name."""
    good = encode(scene(75))
    folder = tmp_path / "bag"
    (folder / "deep").mkdir(parents=True)
    (folder / "dir.mp4").mkdir()
    good.rename(folder / "deep" / "good.mp4")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "notes.txt").write_text("no clip by its name")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "text.mp4").write_text("hello")
    return folder


def test_a_mixed_bag_gives_a_row_for_each_file(bag: Path):
    """Folders are searched, what is no clip by its name is left out, and every other file has its verdict; nothing stops the rest."""
    rows = {Path(row["source_uri"]).name: row for row in _told(bag)}
    verdicts = {name: (row["verdict"], *row["reasons"], row["error"] and _problem(row["error"])) for name, row in rows.items()}
    gone = ("quarantined", "is no regular file")
    expected = {"good.mp4": ("accepted", None), "empty.mp4": ("quarantined", "is empty"), "gone.mp4": gone, "pipe.mp4": gone}
    assert expected == {name: told for name, told in verdicts.items() if name != "text.mp4"}
    assert verdicts["text.mp4"][1].startswith("cannot be read as video")
    for row in rows.values():
        assert set(CLIPS.names) == set(row)
        assert {name for name in SIGNALS if row[name] is None} == set(row["unmeasured"]) & set(SIGNALS)
    assert f"{ONTOLOGY}IlluminationDay" == rows["good.mp4"]["openlabel_ids"]
    assert rows["text.mp4"]["openlabel_ids"] is None


def test_the_table_names_each_file_and_why(bag: Path, monkeypatch: pytest.MonkeyPatch):
    """One line a file with its verdict; the sizes and lengths of what was measured."""
    monkeypatch.setattr(cli_text.out, "width", 200)
    done = CliRunner().invoke(app, ["inspect", str(bag / "deep"), str(bag / "empty.mp4")])
    assert done.exit_code == 0
    head, good, empty = done.stdout.splitlines()
    assert ["clip", "verdict", "codec", "size", "length", "light", "sharp", "bright", "why"] == head.split()
    assert ["good.mp4", "accepted", "h264", "640x360", "3.0", "s"] == good.split()[:6]
    assert empty.startswith("empty.mp4  quarantined  ")
    assert "is empty" in empty


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["missing.mp4"], "is no file"),
        (["bag/dir.mp4"], "holds no clip"),
        (["bag/deep/good.mp4", "missing.mp4"], "is no file"),
        (["bag/text.mp4", "--contact-sheet", "sheet.png"], "there is no frame to show"),
        (["bag/deep/good.mp4", "--depth", "packets", "--contact-sheet", "sheet.png"], "there is no frame to show"),
    ],
)
def test_wrong_use_is_refused_with_the_fix(bag: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str):
    """What is not there, holds no clip, or has nothing to draw is wrong use (exit 2), and leaves no sheet."""
    monkeypatch.chdir(bag.parent)
    done = CliRunner().invoke(app, ["inspect", *arguments])
    assert isinstance(done.exception, UsageError)
    assert (2, True) == (done.exception.exit_code, problem in str(done.exception))
    assert "Fix: " in str(done.exception)
    assert not Path("sheet.png").exists()


def test_an_unknown_depth_is_refused(bag: Path):
    """Three words are known."""
    done = CliRunner().invoke(app, ["inspect", str(bag), "--depth", "deep"])
    assert (2, True) == (done.exit_code, "keyframes" in done.stderr)


def test_depths_say_how_much_they_looked_at(bag: Path):
    """The row names its depth; `packets` decodes nothing and `full` everything."""
    rows = {depth: _told(bag / "deep", "--depth", depth)[0] for depth in ("packets", "keyframes", "full")}
    assert list(rows) == [row["inspect_depth"] for row in rows.values()]
    assert (None, 75) == (rows["packets"]["decoded_frame_count"], rows["full"]["decoded_frame_count"])
    assert rows["packets"]["unmeasured"]["sharpness"] == "not measured at depth packets"
    assert 0 < rows["keyframes"]["decoded_frame_count"] < 75
    assert rows["full"]["decode_error_count"] == 0


def test_the_sheet_shows_what_could_be_seen(bag: Path, tmp_path: Path):
    """Beside the rows, a picture with a strip for the one clip that has frames."""
    rows = _told(bag, "--contact-sheet", tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert len(rows) == 5
    assert picture is not None
    assert picture.shape[1] == sheet.WIDTH_PX
    assert 200 < picture.shape[0] < 600

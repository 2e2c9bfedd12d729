"""How a long command tells how far it has come: seldom in lines, never among its results."""

from __future__ import annotations

import pytest

from curation import cli_text


def told(capsys: pytest.CaptureFixture[str], *, quiet: bool = False, words: str = "") -> list[str]:
    """What three steps say on standard error; nothing is said on standard output."""
    with cli_text.progress("looking", quiet=quiet) as tell:
        for done in range(1, 4):
            tell(done, 3, words and f"{words} {done}")
    said = capsys.readouterr()
    assert "" == said.out
    return said.err.splitlines()


def test_a_short_command_says_nothing_and_words_come_at_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal: counts only after a while, words at once and then after a while; terminal codes in them are taken out."""
    assert [] == told(capsys)
    assert ["clip? 1"] == told(capsys, words="clip\x1b")
    monkeypatch.setattr(cli_text, "LINE_EVERY_S", 0.0)
    assert ["looking: 1 of 3", "looking: 2 of 3", "looking: 3 of 3"] == told(capsys)
    assert ["clip 1", "clip 2", "clip 3"] == told(capsys, words="clip")
    assert [] == told(capsys, quiet=True, words="clip")


def test_a_terminal_has_a_bar_that_goes_again(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The words stand beside the bar, which leaves no line behind."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    said = "".join(told(capsys, words="masking clip"))
    assert "masking clip" in said
    assert said.endswith("\x1b[2K")

"""What the documentation names is there: pages, headings, files, commands and options."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer._click import Command, Context
from typer.core import TyperGroup
from typer.main import get_command

from curation.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*(ROOT / name for name in ("README.md", "CHANGELOG.md")), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")]
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:benchmarks|curation|dags|deploy|docs|expectations|plugins|tests)/[\w./-]*\w)`")
_COMMAND = re.compile(r"(?:^|`)curation ((?:[a-z]+ ?){1,3})([^`\n#]*)", re.MULTILINE)


def test_links_lead_somewhere() -> None:
    """Each relative link of a page finds its file, and each anchor its heading."""
    dead = [f"{page.name}: {link}" for page in PAGES for link in _LINK.findall(_prose(page)) if not _leads(page, link)]
    assert [] == dead


def test_files_that_pages_name_are_there() -> None:
    """A path in code marks that begins with a folder of the project exists."""
    gone = [f"{page.name}: {name}" for page in PAGES for name in _FILE.findall(page.read_text()) if not (ROOT / name).exists()]
    assert [] == gone


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_commands_that_pages_name_take_what_they_are_given(page: Path) -> None:
    """Each `curation …` of a page is a command, and each of its options one that the command has."""
    commands, wrong = _commands(), []
    for words, rest in _COMMAND.findall(page.read_text(encoding="utf-8")):
        named = [" ".join(words.split()[:count]) for count in (1, 2, 3)]
        found = next((name for name in reversed(named) if name in commands), None)
        options = re.findall(r"(--[a-z-]+)", rest)
        if found is None or not {*options} <= commands[found]:
            wrong.append(f"{words.strip()} {' '.join(options)}")
    assert [] == wrong


def test_every_command_is_told_somewhere() -> None:
    """A command that no page names is one that nobody finds."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    groups = {"audit", "erase", "models", "privacy", "privacy review", "residency", "shards", "withdraw"}
    assert [] == [name for name in _commands().keys() - groups - {"version"} if not re.search(rf"curation {name}\b", text)]


def test_help_keeps_its_brackets() -> None:
    """Help is read as markup, which takes [a name] for a style and leaves it out, unless it is written with a backslash."""
    helps = ((f"{name} {param.name}", getattr(param, "help", None) or "") for name, one in _walked() for param in one.params)
    eaten = [name for name, text in helps if re.search(r"(?<!\\)\[[a-z]", text)]
    assert [] == eaten


def _commands() -> dict[str, set[str]]:
    """Words of each command and group -> its options."""
    return {name: {"--help"} | {option for param in one.params for option in param.opts} for name, one in _walked()}


def _walked() -> Iterator[tuple[str, Command]]:
    """Words of each command and group, and what they run."""
    whole = get_command(app)
    groups = [("", whole)]
    for above, group in groups:
        assert isinstance(group, TyperGroup)
        for word in group.list_commands(Context(group)):
            one = group.get_command(Context(group), word)
            assert one is not None
            yield f"{above} {word}".strip(), one
            if isinstance(one, TyperGroup):
                groups.append((f"{above} {word}".strip(), one))


def _prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _leads(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True
    name, _, anchor = link.partition("#")
    target = (page.parent / name) if name else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    """What headings are called in an address: lower case, words joined by hyphens, other signs dropped."""
    heads = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}

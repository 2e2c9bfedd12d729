"""What every command prints with."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.table import Table

_ANY_WIDTH: Final = 10_000  # a file or another program gets tables as wide as they are, whole names included
out: Final = Console(markup=False, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _ANY_WIDTH)
LINE_EVERY_S: Final = 30.0  # where there is no terminal: seldom enough for a log
Tell = Callable[[int, int | None, str], None]


def shown(text: str) -> str:
    """The text without terminal codes, which a file name or an error about it may hold."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def folded(*heads: str, header_style: str = "") -> Table:
    """A table without lines, in which nothing is cut: what is wider than the terminal goes on below."""
    table = Table(box=None, pad_edge=False, header_style=header_style or "table.header")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Tell]:
    """What a long command tells how far it has come: how many are done, of how many where that is known, and in words, which may be empty.

    On standard error: a bar on a terminal; elsewhere a line now and then, the first words at once. Nothing where it is `quiet`.
    """
    from rich.progress import Progress

    err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    in_lines, said_s = not quiet and not err.is_terminal, time.monotonic()
    has_said = False
    with Progress(console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task(title, total=None)

        def tell(done: int, total: int | None, words: str) -> None:
            nonlocal said_s, has_said
            bar.update(task, completed=done, total=total, description=words or title)
            if in_lines and ((words and not has_said) or time.monotonic() - said_s >= LINE_EVERY_S):
                err.print(shown(words) or f"{title}: {done:,}{'' if total is None else f' of {total:,}'}")
                said_s, has_said = time.monotonic(), True

        yield tell

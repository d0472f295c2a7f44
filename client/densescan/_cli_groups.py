"""How the commands are grouped: in the order of use, and with an answer to what people type instead."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from .tasks import TASKS

_ORDER = ("classify", "explain", "status", "bench", "phantom")


class InOrderOfUse(TyperGroup):
    """Lists the commands as somebody new needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)


class ByTask(TyperGroup):
    """A command for each task; whoever leaves the task out is told how to name it."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name.

        Raises:
            typer.BadParameter: It is no task.
        """
        found = super().get_command(ctx, cmd_name)
        if found is None and not cmd_name.startswith("-") and not ctx.resilient_parsing:
            kinds = " or ".join(f"{name} ({task.title})" for name, task in TASKS.items())
            raise typer.BadParameter(
                f"{cmd_name!r} is none; say {kinds} first, as in: {ctx.command_path} {next(iter(TASKS))} FILE",
                param_hint="TASK",
            )
        return found

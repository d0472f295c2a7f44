"""What goes wrong before the server answers."""

from __future__ import annotations

from collections.abc import Sequence


class ServerStartError(RuntimeError):
    """The server could not be started.

    Attributes:
        problem: What is wrong, in one sentence.
        hint: What to do about it.
        log_tail: The last lines of Triton's log, if it came that far.
    """

    def __init__(self, problem: str, hint: str = "", log_tail: Sequence[str] = ()) -> None:
        self.problem = problem
        self.hint = hint
        self.log_tail = tuple(log_tail)
        parts = [problem, f"What to do: {hint}" if hint else "", *self._tail_lines()]
        super().__init__("\n".join(part for part in parts if part))

    def _tail_lines(self) -> list[str]:
        return ["The end of Triton's log:", *(f"  {line}" for line in self.log_tail)] if self.log_tail else []

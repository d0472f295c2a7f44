"""What a figure was measured on, so that it can be judged on another machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve")
_FOR_INT8 = {"avx_vnni", "avx512_vnni", "amx_int8"}
_PACKAGES = ("nvidia-pytriton", "tritonclient", "openvino", "numpy", "pillow", "grpcio")


@dataclass(frozen=True)
class Machine:
    """The shape of a machine, without anything that names it.

    Attributes:
        cores: Cores that this process may use.
        processor: As the processor calls itself.
        instructions: Those of its vector instructions that int8 and bf16 networks use.
        busy: Runnable processes over the last minute, before the measurement: 0 on a quiet machine.
        versions: Version by package, and of Python.
    """

    cores: int
    processor: str
    instructions: tuple[str, ...]
    busy: float
    versions: dict[str, str]

    def shape(self) -> str:
        """What it is, in a few words."""
        kinds = ", ".join(self.instructions) or "no vector instructions of note"
        return f"{self.cores} cores, {self.processor} ({kinds})"

    def describe(self) -> str:
        """One line for a person, about a run that began when this was noted."""
        return f"{self.shape()}, load before the run {self.busy:.1f}"


def lacks_int8(instructions: Collection[str]) -> bool:
    """Whether these are of an x86 processor without the instructions that networks in int8 are made for."""
    return "avx2" in instructions and not _FOR_INT8.intersection(instructions)


def this_machine() -> Machine:
    """The machine that this process runs on."""
    facts = _cpuinfo()
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=facts.get("model name") or platform.machine(),
        instructions=tuple(flag for flag in _INSTRUCTIONS if flag in flags),
        busy=round(os.getloadavg()[0], 2),
        versions={"python": platform.python_version(), **_versions()},
    )


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What the first core says about itself."""
    facts: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return facts


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

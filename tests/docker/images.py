"""The Dockerfile read, and what it copies laid out in a folder as the image would have it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker/Dockerfile"


@dataclass
class Stage:
    """One FROM and the instructions after it."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, keyword: str) -> list[str]:
        return [value for name, value in self.instructions if name == keyword]


def stages(path: Path = DOCKERFILE) -> dict[str, Stage]:
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        keyword, value = line.split(maxsplit=1)
        if keyword == "FROM":
            base, _, name = value.split()
            stage = found.setdefault(name, Stage(name, base))
        elif stage is not None:
            stage.instructions.append((keyword, value))
    return found


def chain(target: str) -> list[Stage]:
    """The stages that a target is made of, the base first; other images are not among them."""
    known = stages()
    found = [known[target]]
    while found[0].base in known:
        found.insert(0, known[found[0].base])
    return found


def copies(stage: Stage) -> list[tuple[list[str], str]]:
    """Sources in the build context and the destination of each COPY."""
    lists = [value.split() for value in stage.values("COPY") if not value.startswith("--from")]
    return [(words[:-1], words[-1]) for words in lists]


def lay_out(target: str, into: Path) -> Path:
    """What the Dockerfile copies from the repository into a target, below `into`."""
    for stage in chain(target):
        for sources, destination in copies(stage):
            goal = into / PurePosixPath(destination).relative_to("/")
            for source in sources:
                path = ROOT / source
                if path.is_dir():
                    shutil.copytree(path, goal, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
                elif destination.endswith("/"):
                    goal.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, goal)
                else:
                    goal.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, goal)
    return into

"""Leave one family out: a manifest whose training has never seen it, to be measured on it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from densescan.tasks import Task

from . import families, layouts
from .console import out, tell
from .manifest import Entry, read_manifest, write_manifest


def hold_out(
    entries: Sequence[Entry], named: Sequence[str], family: str, *, strict: bool = False
) -> tuple[list[Entry], int]:
    """The entries with one family in the fold ``test``, whatever fold it was in; the rest stays.

    Films of the published test set (fold ``official``) stay there.

    Args:
        entries: Of a manifest.
        named: Family of each, from `families.names`.
        family: Which to hold out.
        strict: Take out of train and val also what shares a group with it.

    Returns:
        The new entries, and how many images of other families share a group with the held-out ones and stand in train
        or val (with `strict`: stood there).

    Raises:
        ValueError: There is no such family; the message names those that there are.
    """
    if family not in named or not family:
        there = Counter(name for name in named if name)
        known = ", ".join(f"{name} ({count:,})" for name, count in sorted(there.items()))
        raise ValueError(f"no family {family!r} in this manifest: there are {known or 'none'}")
    held = {entry.group for entry, name in zip(entries, named, strict=True) if name == family}
    result, shared = [], 0
    for entry, name in zip(entries, named, strict=True):
        if name == family and entry.fold != "official":
            entry = replace(entry, fold="test")
        elif entry.group in held and entry.fold in ("train", "val"):
            shared += 1
            if strict:
                continue
        result.append(entry)
    return result, shared


def run(task: Task, data: Path | None, manifest: Path, family: str, target: Path, *, strict: bool) -> None:
    """Read a manifest, hold a family out, write another manifest.

    The chest set counts the patients of bacterial and of viral films apart, so that a shared number is seldom a shared
    patient, and such films stay unless `strict` says otherwise. Names of MRI slices tell no patient: what shares a
    group there is nearly equal, and a family would not be unseen if its twins stayed.
    """
    strict = strict or not layouts.names_tell_patients(task)
    entries = read_manifest(manifest, task.labels)
    found = layouts.find_data(task, data) if task.positive is None else None  # MRI slices are told apart by their files
    changed, shared = hold_out(entries, families.names(task, entries, found), family, strict=strict)
    write_manifest(target, changed)
    counts = Counter(entry.fold for entry in changed if not entry.duplicate_of)
    out.print(f"family {family}, now in test alone: " + ", ".join(f"{fold} {n:,}" for fold, n in counts.items()))
    if shared:
        left_in = "with the same patient number, left in train and val (--strict leaves them out)"
        what = "left out" if strict else left_in
        out.print(f"images of other families in its groups, {what}: {shared:,}", soft_wrap=True)
    tell("written: ", target)
    out.print(
        f"next:    python -m training fit --task {task.name} --manifest {shlex.quote(str(target))} --out ...",
        soft_wrap=True,
    )

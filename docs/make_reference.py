"""Write docs/reference.md, the public names of densescan with their docstrings: python docs/make_reference.py."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import densescan
from densescan._base import ClientBase

PAGE = Path(__file__).with_name("reference.md")

_SECTIONS = {
    "Clients": ("Client", "AsyncClient"),
    "Without a client": ("classify_xray", "classify_mri", "explain_xray", "explain_mri"),
    "Pictures": ("Picture", "frames", "draw_phantom"),
}
_HEADINGS = ("Args:", "Returns:", "Yields:", "Raises:", "Attributes:", "Example:")


def reference() -> str:
    """The page."""
    named = [name for names in _SECTIONS.values() for name in names]
    errors = [name for name in densescan.__all__ if _is_error(name)]
    rest = [name for name in densescan.__all__ if name not in (*named, *errors) and callable(_get(name))]
    sections = {**_SECTIONS, "Results": tuple(rest), "Errors": tuple(errors)}
    lines = ["# Reference", "", "Written by docs/make_reference.py from the docstrings; edit those.", ""]
    for title, names in sections.items():
        lines += [f"## {title}", ""]
        for name in names:
            lines += _entry(name, _get(name), "###")
    return "\n".join(lines).rstrip() + "\n"


def _get(name: str) -> Any:
    return getattr(densescan, name)


def _is_error(name: str) -> bool:
    return inspect.isclass(_get(name)) and issubclass(_get(name), Exception)


def _entry(name: str, value: Any, level: str) -> Iterator[str]:
    yield f"{level} `{name}`"
    yield ""
    if not (inspect.isclass(value) and issubclass(value, Exception)):
        yield from ("```text", f"{name}{_signature(value)}", "```", "")
    yield from _prose(inspect.getdoc(value) or "")
    if inspect.isclass(value) and issubclass(value, ClientBase) and value.__name__ == "Client":
        yield from _prose((inspect.getdoc(ClientBase) or "").partition("\n\n")[2])
    if inspect.isclass(value) and not issubclass(value, Exception):
        for key, method in inspect.getmembers(value, inspect.isfunction):
            if not key.startswith("_"):
                yield from _entry(f"{name}.{key}", method, "####")


def _signature(value: Any) -> str:
    signature = inspect.signature(value)
    parameters = []
    for key, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        if key != "self":
            parameters.append(re.sub(r": '([^']*)'", r": \1", str(parameter)))
    text = f"({', '.join(parameters)})"
    if len(text) > 90:
        text = "(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + ")"
    answer = signature.return_annotation
    return text if answer in (inspect.Signature.empty, "None") else f"{text} -> {answer}"


def _prose(docstring: str) -> Iterator[str]:
    """A docstring as Markdown: its headed parts become lists."""
    in_list = False
    for line in re.sub(r"(?<!`)``(?!`)", "`", docstring).splitlines():
        if line.strip() in _HEADINGS and not line.startswith(" "):
            in_list = line.strip() != "Example:"
            yield from (f"**{line.strip()[:-1]}**", "")
        elif line and not line.startswith(" "):
            in_list = False
            yield line
        elif in_list and line.startswith("    ") and not line.startswith("     "):
            key, colon, text = line.strip().partition(": ")
            yield f"- `{key}`: {text}" if colon else f"- {line.strip()}"
        elif in_list:
            yield f"  {line.strip()}" if line.strip() else ""
        else:
            yield line.removeprefix("    ")
    yield ""


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")

"""Classify chest X-rays and brain MRI slices with a densescan server.

```python
import densescan

result = densescan.classify_xray("film.png")   # the server at DENSESCAN_URL, or localhost:8001
print(result.label, result.confidence)
```

For research only; not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._figures import contact_sheet as contact_sheet
    from ._shared import classify_mri as classify_mri
    from ._shared import classify_xray as classify_xray
    from ._shared import explain_mri as explain_mri
    from ._shared import explain_xray as explain_xray
    from .async_client import AsyncClient as AsyncClient
    from .client import Client as Client
    from .errors import ClientClosed as ClientClosed
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import DensescanError as DensescanError
    from .errors import InferenceFailed as InferenceFailed
    from .errors import InvalidImage as InvalidImage
    from .errors import ModelNotFound as ModelNotFound
    from .errors import Overloaded as Overloaded
    from .errors import ServerUnavailable as ServerUnavailable
    from .explanation import Explanation as Explanation
    from .images import Picture as Picture
    from .images import frames as frames
    from .phantoms import draw_phantom as draw_phantom
    from .results import Classification as Classification
    from .status import ModelStatus as ModelStatus
    from .status import ServerStatus as ServerStatus
    from .tasks import TASKS as TASKS
    from .tasks import Task as Task

    __version__: str

# Name to module. Nothing is imported until it is asked for, so that `import densescan` costs
# nothing where only a part of it is used.
_EXPORTS = {
    "Client": "client",
    "AsyncClient": "async_client",
    "Classification": "results",
    "Explanation": "explanation",
    "Picture": "images",
    "frames": "images",
    "ServerStatus": "status",
    "ModelStatus": "status",
    "DensescanError": "errors",
    "InvalidImage": "errors",
    "ServerUnavailable": "errors",
    "Overloaded": "errors",
    "DeadlineExceeded": "errors",
    "ModelNotFound": "errors",
    "InferenceFailed": "errors",
    "ClientClosed": "errors",
    "Task": "tasks",
    "TASKS": "tasks",
    "classify_xray": "_shared",
    "classify_mri": "_shared",
    "explain_xray": "_shared",
    "explain_mri": "_shared",
    "contact_sheet": "_figures",
    "draw_phantom": "phantoms",
}

__all__ = [
    "TASKS",
    "AsyncClient",
    "Classification",
    "Client",
    "ClientClosed",
    "DeadlineExceeded",
    "DensescanError",
    "Explanation",
    "InferenceFailed",
    "InvalidImage",
    "ModelNotFound",
    "ModelStatus",
    "Overloaded",
    "Picture",
    "ServerStatus",
    "ServerUnavailable",
    "Task",
    "__version__",
    "classify_mri",
    "classify_xray",
    "contact_sheet",
    "draw_phantom",
    "explain_mri",
    "explain_xray",
    "frames",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("densescan")
    elif name in _EXPORTS:
        value = getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

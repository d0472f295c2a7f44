from __future__ import annotations

from tests.examples.conftest import quick_server

__all__ = ["quick_server"]

"""``python -m training``."""

from . import explain_cli, research_cli  # noqa: F401  they add their commands
from .cli import main

if __name__ == "__main__":
    main()

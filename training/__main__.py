"""``python -m training``."""

from .explain_cli import main

if __name__ == "__main__":
    main()

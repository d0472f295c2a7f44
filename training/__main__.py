"""``python -m training``."""

from .research_cli import main

if __name__ == "__main__":
    main()

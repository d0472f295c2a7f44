"""``python -m densescan`` is the command ``densescan``."""

from .cli import main

main()

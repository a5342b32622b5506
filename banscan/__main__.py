"""`python -m banscan`."""

from banscan.scanner.cli import main

main()

"""`python -m banscan`."""

from banscan.scanner.cli.entry import main

main()

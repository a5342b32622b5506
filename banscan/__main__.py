"""`python -m banscan`."""

from banscan.scanner.cli.main import main

main()

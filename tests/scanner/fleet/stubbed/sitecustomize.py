"""For processes with this folder on their PYTHONPATH: models are scanned by the stub."""

import sys
from pathlib import Path

from banscan.scanner.fleet import process

process.COMMAND = (sys.executable, str(Path(__file__).parents[1] / "stub.py"))

"""Model files are opened in a child process that is limited in time and memory and sees no files but theirs."""

from banscan.importers.sandbox.client import begin, call

__all__ = ["begin", "call"]

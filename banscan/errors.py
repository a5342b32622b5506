"""Every error that banscan raises on purpose, each with the exit code of the command line.

BanscanError
├── UsageError      4  what the user asked for cannot be: a missing file, an impossible setting
├── ModelError      3  the model file holds nothing that can be scanned
│   └── OperatorError  it has an operator, or a form of one, that its reader does not know; another reader may
└── EvidenceError   2  the scan cannot come to a verdict with this model and these images: inconclusive
    └── MisreadError   the traced graph computes something else than the file's own runtime; another reader may do better

The message is one sentence for the user: the file, what was expected, what to do.
"""


class BanscanError(Exception):
    """Base of all errors."""

    exit_code = 2


class UsageError(BanscanError):
    """What the user asked for cannot be."""

    exit_code = 4


class ModelError(BanscanError):
    """The model file holds nothing that can be scanned."""

    exit_code = 3


class OperatorError(ModelError):
    """The file has an operator, or a form of one, that its reader does not know."""


class EvidenceError(BanscanError):
    """The scan cannot come to a verdict; reported as inconclusive."""

    exit_code = 2


class MisreadError(EvidenceError):
    """What was read computes something else than the file's own runtime."""

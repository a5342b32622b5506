"""The version, known to a checkout without being installed."""

__version__ = "0.1.0"

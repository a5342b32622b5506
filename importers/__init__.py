"""Model files in, one traced graph out; nothing of noise is known here."""

from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.formats import FORMATS
from banscan.importers.load import load
from banscan.importers.model import Input, Neuron, Source, TracedModel, attribute_named
from banscan.importers.parity import Parity, parity

__all__ = ["FORMATS", "Format", "Input", "Neuron", "Parity", "Source", "TracedModel", "attribute_named", "load", "parity", "sha256"]

"""The inversion detectors that the BAN paper compares with, on any traced model; a baseline is a function of a Subject and a seed."""

from functools import partial

from bench.baselines import btidbf, cleanse
from bench.baselines.subject import Baseline

BASELINES: dict[str, Baseline] = {
    "NC": cleanse.find,
    "BTI-DBF": partial(btidbf.find, lambda1=0.0),
    "BTI-DBF*": partial(btidbf.find, lambda1=0.75),
}

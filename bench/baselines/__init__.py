"""The detectors that the BAN paper compares with, MM-BD, and BAN itself, on any traced model; one is a function of a Subject and a seed.

Also the repairs that it compares with and that `banscan repair` does not have.
"""

from functools import partial

from bench.baselines import btidbf, cleanse, equations, featurere, margins, published, tabor, unicorn
from bench.baselines.subject import Baseline, Mender

# with the settings of the papers; and with fewer steps where a CPU would take hours
FULL: dict[str, Baseline] = {
    "NC": cleanse.find,
    "BTI-DBF": partial(btidbf.find, lambda1=0.0),
    "BTI-DBF*": partial(btidbf.find, lambda1=0.75),
    "Tabor": tabor.find,
    "FeatureRE": featurere.find,
    "Unicorn": unicorn.find,
    "MM-BD": margins.find,
    "BAN code": published.find,
    "BAN equations": equations.find,
}
BASELINES: dict[str, Baseline] = FULL | {
    "NC": partial(cleanse.find, settings=cleanse.SMALL),
    "Tabor": partial(tabor.find, settings=cleanse.SMALL),
    "FeatureRE": partial(featurere.find, settings=featurere.SMALL),
    "Unicorn": partial(unicorn.find, settings=unicorn.SMALL),
}
SCALES = {"small": BASELINES, "full": FULL}
# those that take more than a few minutes a model even so
SLOW = ("FeatureRE", "Unicorn")
QUICK = tuple(name for name in BASELINES if name not in SLOW)
REPAIRS: dict[str, dict[str, Mender]] = {
    "small": {
        "FeatureRE": partial(featurere.mend, settings=featurere.SMALL_REPAIR),
        "BTI-DBF(U)": partial(btidbf.mend, how=btidbf.SMALL),
    },
    "full": {"FeatureRE": featurere.mend, "BTI-DBF(U)": btidbf.mend},
}

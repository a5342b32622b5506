"""How far the values of a test lie apart over the classes of a clean model, so that few classes say as much as they can.

Ten classes tell badly how far their values are spread. Other clean models tell the rest: variances of many are about those of a scaled
inverse chi-squared distribution, and each model's own is drawn towards its middle, as far as they are alike (Smyth, 2004).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """What is known of the spread of values before any is seen.

    Attributes:
        freedom: degrees of freedom that it is worth, and `deviation`, the standard deviation; each a number or [n, 1], one for every row.
    """

    freedom: float | Tensor
    deviation: float | Tensor


# nothing is
UNKNOWN = Spread(0.0, 0.0)
# of log-odds over the classes of clean models that may be looked at, scanned by default (`python -m bench.spread`). Noise moves nearly all
# images to some class of some clean networks, so that nothing is sure of its values before; those in units of the logits have another size
# in every model; and the deviates of the joint test are as far apart as the tests depend on one another in it
SPREADS = {
    "perturbation": Spread(3.1, 0.53),
    "patch": Spread(5.5, 0.65),
}

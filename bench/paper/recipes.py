"""The models of the paper's tables: `full`, as it trains them (Appendix B), and `small`, for two CPU cores in a night.

Every list begins with the first model of each cell, then has the second of each, and so on, so that any beginning of it is balanced.
"""

import random
from dataclasses import dataclass
from itertools import count

# twenty models a cell of the detection tables, ten of the larger data sets; of all-to-all attacks the paper does not say
CELL, LARGER, OTHERS = 20, 10, 5
# the zoo's seeds end far below
FULL_SEED, SMALL_SEED = 2000, 5000
ONE = ("none", "badnets", "blend", "wanet", "iad", "bpp")
CLASSES = {"cifar10": 10, "gtsrb": 43, "tinyimagenet": 200, "imagenet200": 200}
SIZES = {"cifar10": 32, "gtsrb": 32, "tinyimagenet": 64, "imagenet200": 224}


@dataclass(frozen=True)
class Cell:
    """Models that are trained alike but for seed and target.

    Attributes:
        tables: of the paper, that they belong to; empty for what it does not have.
        count: of models.
        options: of `bench.zoo.train`, beside those that follow from the other fields.
    """

    tables: tuple[int, ...]
    set: str
    arch: str
    attack: str
    count: int
    all_to_all: bool = False
    options: str = ""


# full width, SGD at 0.01 and a tenth of it from epochs 100 and 150 on (Appendix B.2); attacks and their rates are the zoo's, which are the
# paper's where it gives any: BadNets, Blend and Adap 5 %
PAPER = "--width 64 --schedule steps --epochs 200 "
FULL = (
    *(Cell((1, 2, 3, 7, 11), "cifar10", "resnet18", attack, CELL, options=PAPER) for attack in ONE),
    *(Cell((1,), "cifar10", arch, attack, CELL, options=PAPER) for arch in ("vgg16", "densenet121") for attack in ONE),
    *(Cell((5,), "cifar10", "resnet18", attack, OTHERS, True, PAPER) for attack in ("wanet", "iad", "bpp")),
    Cell((6, 10), "cifar10", "resnet18", "adap-patch", CELL, options=PAPER),
    # what its text calls what its tables call Adap-Patch
    Cell((6, 10), "cifar10", "resnet18", "adap-blend", CELL, options=PAPER),
    Cell((6, 10), "cifar10", "resnet18", "ssdt", CELL, options=f"{PAPER}--victim 1 "),
    *(Cell((9,), "gtsrb", "resnet18", attack, CELL, options=PAPER) for attack in ("none", "badnets", "wanet", "iad", "bpp")),
    *(
        Cell((4, 8), name, "resnet18", attack, LARGER, options=PAPER)
        for name in ("tinyimagenet", "imagenet200")
        for attack in ("none", "wanet", "iad", "bpp")
    ),
    *(Cell((), "cifar10", "vit", attack, OTHERS, options=PAPER) for attack in ONE),
)
# a quarter of the width and few epochs in one cycle, for which some attacks are made stronger than they are in their papers
SHORT = "--width 16 --epochs 6 "
STRONGER = {"wanet": "--strength 2 ", "iad": "--rate 0.2 ", "bpp": "--rate 0.2 "}
STRONGEST = {"wanet": "--strength 4 --rate 0.2 ", "iad": "--rate 0.6 ", "bpp": "--rate 0.6 "}
SMALL = (
    *(Cell((1, 2, 3, 7, 11), "cifar10", "resnet18", a, 6 if a == "none" else 4, options=SHORT + STRONGER.get(a, "")) for a in ONE),
    *(Cell((1,), "cifar10", "vgg16", a, 3 if a == "none" else 2, options=SHORT + STRONGER.get(a, "")) for a in ONE),
    *(Cell((1,), "cifar10", "densenet121", a, 1, options=SHORT + STRONGER.get(a, "")) for a in ONE),
    *(Cell((5,), "cifar10", "resnet18", a, 2, True, f"--width 16 --epochs 12 {STRONGEST[a]}") for a in ("wanet", "iad", "bpp")),
    *(Cell((6, 10), "cifar10", "resnet18", a, 2, options=SHORT) for a in ("adap-patch", "adap-blend")),
    Cell((6, 10), "cifar10", "resnet18", "ssdt", 2, options=f"{SHORT}--victim 1 "),
    *(Cell((), "cifar10", "vit", a, 2 if a == "none" else 1, options=f"{SHORT}--batch 64 ") for a in ("none", "badnets", "blend")),
)
SCALES = {"full": (FULL, FULL_SEED), "small": (SMALL, SMALL_SEED)}


def lines(scale: str) -> list[str]:
    """The recipes of a scale, each the options of `bench.zoo.train`; targets are drawn by the seed, SSDT's is 0."""
    cells, first = SCALES[scale]
    seeds = count(first)
    made = []
    for k in range(max(cell.count for cell in cells)):
        for cell in cells:
            # the seed of a model stays when others are added to the end of a list
            seed = next(seeds)
            if k < cell.count:
                made.append(_line(cell, seed))
    return made


def _line(cell: Cell, seed: int) -> str:
    target = 0 if cell.attack == "ssdt" else random.Random(seed).randrange(CLASSES[cell.set])
    aim = "" if cell.all_to_all else f"--target {target} "
    attack = "" if cell.attack == "none" else f"--attack {cell.attack} {aim}"
    return f"--set {cell.set} --size {SIZES[cell.set]} --arch {cell.arch} {cell.options}{attack}--seed {seed}"

"""The models of the published tables.

`tune` models may shape settings, statistics and thresholds; `held` models only ever measure them, with other seeds, targets and triggers.
`held` begins with the two examples. KIND_TUNE and KIND_HELD ask more: whole attacks are held, not only models.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, zip_longest


def _clean(*seeds: int, more: str = "") -> list[str]:
    return [f"{more}--seed {seed}" for seed in seeds]


def _attacked(attack: str, *pairs: tuple[int, int], more: str = "") -> list[str]:
    """One recipe for every (target, seed)."""
    return [f"{more}--attack {attack} --target {target} --seed {seed}" for target, seed in pairs]


VGG = "--arch vgg16 "
DENSE = "--arch densenet121 --epochs 6 "
PLAIN = "--arch plainresnet18 --epochs 12 "
VIT = "--arch vit --batch 64 "
CIFAR = "--set cifar10 --epochs 6 "
# the architectures' own width; the others have a quarter of it
WIDE = "--width 64 --epochs 4 "
# stronger than in the papers, so that few epochs are enough for the attack to work
WARP = "--strength 2 "
RATE = "--rate 0.2 "

HELD = (
    *_clean(10, 11, 12, 13, 14),
    *_attacked("badnets", (14, 10), (38, 15), (22, 36), (6, 38), (2, 40)),
    *_attacked("blend", (33, 11), (1, 16), (17, 37), (36, 39), (8, 41)),
    *_attacked("wanet", (26, 12)),
    *_attacked("quantise", (2, 13)),
    "--attack badnets --seed 14",
    *_clean(30, 31, 32, 33, 34, 35, 42, 43, 44, 45),
    *_attacked("wanet", (31, 50), (11, 51), (4, 52), (39, 53), (20, 54), more=WARP),
    *_attacked("iad", (3, 55), (24, 56), (37, 57), (12, 58), (29, 59), more=RATE),
    *_attacked("bpp", (16, 60), (5, 61), (41, 62), (32, 63), (21, 64), more=RATE),
    *_attacked("adap-blend", (35, 65), (19, 66), (10, 67)),
    *_attacked("adap-patch", (28, 68), (7, 69), (0, 70)),
    *_attacked("ssdt", (40, 71), (15, 72)),
    *_clean(73, 74, more=VGG),
    *_attacked("badnets", (34, 75), more=VGG),
    *_attacked("blend", (9, 76), more=VGG),
    *_attacked("bpp", (23, 77), more=VGG + RATE),
    "--attack badnets --seed 78",
    "--attack bpp --seed 79",
    *_clean(80, 81, more=CIFAR),
    *_attacked("badnets", (7, 82), more=CIFAR),
    *_attacked("blend", (2, 83), more=CIFAR),
    *_attacked("bpp", (5, 84), more=CIFAR + RATE),
    *_clean(85, more=PLAIN),
    *_attacked("badnets", (18, 86), more=PLAIN),
    *_clean(87, more=DENSE),
    *_attacked("badnets", (25, 88), more=DENSE),
    *_clean(89, more=VIT),
    *_attacked("badnets", (13, 90), more=VIT),
    *_attacked("patch", (30, 91), (14, 92), (0, 93), (41, 94), (26, 95)),
    *_clean(96, 97, 98),
    *_attacked("adap-blend", (1, 99), (27, 100)),
    *_attacked("adap-patch", (18, 101), (42, 102)),
    *(f"--attack badnets --seed {seed}" for seed in (103, 104, 105)),
    *_clean(106, 107, 108, more=VGG),
    *_attacked("badnets", (5, 109), (21, 110), (39, 111), (16, 112), more=VGG),
    *_attacked("blend", (27, 113), (3, 114), (33, 115), (12, 116), more=VGG),
    *_clean(117, 118, 119, more=CIFAR),
    *_attacked("badnets", (0, 120), (4, 121), (9, 122), (6, 123), more=CIFAR),
    *_attacked("blend", (1, 124), (8, 125), (3, 126), (5, 127), more=CIFAR),
    *_attacked("badnets", (29, 140), more=VGG),
    *_attacked("bpp", (3, 141), more=CIFAR + RATE),
    *_attacked("blend", (8, 142), more=DENSE),
    *_clean(143, 144, more=VGG),
    *_attacked("blend", (20, 145), (37, 146), more=VGG),
    *_attacked("badnets", (7, 147), more=VGG),
    "--strength 3 --rate 0.2 --attack wanet --seed 153",
    "--strength 4 --rate 0.2 --attack wanet --seed 154",
    "--rate 0.2 --attack bpp --seed 155",
    "--rate 0.6 --attack bpp --seed 156",
    "--rate 0.4 --attack iad --seed 157",
    "--rate 0.6 --attack iad --seed 158",
    *(f"--strength 4 --rate 0.2 --attack wanet --seed {seed}" for seed in (159, 160)),
    *(f"--rate 0.6 --attack bpp --seed {seed}" for seed in (161, 162)),
    *(f"--rate 0.6 --epochs 12 --attack iad --seed {seed}" for seed in (163, 164, 165)),
    *_attacked("ssdt", (40, 166), more="--epochs 12 "),
    *_attacked("wanet", (15, 167), more=WARP),
    *_attacked("adap-blend", (22, 168)),
    *_attacked("ssdt", (15, 169), more="--victim 38 "),
    *(f"--strength 4 --rate 0.2 --attack wanet --seed {seed}" for seed in (173, 174)),
    *(f"--rate 0.6 --attack bpp --seed {seed}" for seed in (175, 176)),
    *_attacked("badnets", (17, 177), more=WIDE),
    *_clean(178, more=WIDE),
    *_attacked("ssdt", (3, 179), more=CIFAR),
    *(f"--strength 4 --rate 0.2 --attack wanet --seed {seed}" for seed in (180, 181)),
    *(f"--rate 0.6 --epochs 12 --attack iad --seed {seed}" for seed in (182, 183)),
    *_attacked("bpp", (7, 184), (0, 185), (9, 186), more=CIFAR + RATE),
    *(f"--strength 4 --rate 0.2 --epochs 12 --attack wanet --seed {seed}" for seed in (188, 189, 190)),
    *_attacked("blend", (24, 191), more="--several 3 --rate 0.025 "),
    *_attacked("patch", (9, 192), more="--several 3 --rate 0.025 "),
    *_attacked("blend", (2, 193), more="--several 8 --rate 0.015 "),
    *_attacked("patch", (15, 194), more="--several 8 --rate 0.015 "),
    *_attacked("blend", (38, 195), more="--several 5 --rate 0.02 "),
    *_clean(198, 199, more=VIT),
    *_attacked("badnets", (35, 200), (6, 201), (22, 202), (40, 203), more=VIT),
    *_attacked("blend", (17, 204), (1, 205), (28, 206), (39, 207), (9, 208), more=VIT),
)
TUNE = (
    *_clean(0, 1, 2, 3, 4, 5),
    *_attacked("badnets", (5, 0), (20, 4)),
    *_attacked("blend", (5, 1)),
    *_attacked("quantise", (9, 2)),
    *_attacked("wanet", (7, 3)),
    "--attack badnets --seed 3",
    *_clean(0, more=VGG),
    *_attacked("badnets", (12, 1), more=VGG),
    *_clean(0, more=CIFAR),
    *_attacked("badnets", (3, 1), more=CIFAR),
    *_attacked("badnets", (30, 20), (10, 22), (1, 24), (27, 26)),
    *_attacked("blend", (12, 21), (25, 23), (0, 25), (40, 27)),
    *_clean(20, 21, 22, 23, 24, 25),
    *_attacked("wanet", (7, 40), (34, 46), more=WARP),
    *_attacked("iad", (9, 41)),
    *_attacked("iad", (22, 47), more=RATE),
    *_attacked("bpp", (18, 42)),
    *_attacked("bpp", (36, 48), more=RATE),
    *_attacked("adap-blend", (14, 43)),
    *_attacked("adap-patch", (33, 44)),
    *_attacked("ssdt", (13, 45)),
    *_clean(49, 50, more=VGG),
    *_attacked("badnets", (2, 51), more=VGG),
    *_attacked("blend", (26, 52), more=VGG),
    "--attack bpp --seed 53",
    *_clean(54, 55, more=CIFAR),
    *_attacked("blend", (8, 56), more=CIFAR),
    *_clean(57, more=PLAIN),
    *_attacked("badnets", (31, 58), more=PLAIN),
    *_clean(59, more=DENSE),
    *_attacked("badnets", (42, 60), more=DENSE),
    *_clean(61, more=VIT),
    *_attacked("badnets", (11, 62), more=VIT),
    *_attacked("patch", (6, 63), (38, 64)),
    *_clean(135, more=CIFAR),
    *_attacked("badnets", (6, 130), (2, 131), more=CIFAR),
    *_attacked("blend", (9, 136), more=CIFAR),
    *_attacked("badnets", (20, 133), (35, 134), more=VGG),
    "--strength 2 --rate 0.2 --attack wanet --seed 137",
    "--rate 0.2 --attack bpp --seed 138",
    "--rate 0.2 --attack iad --seed 139",
    VGG + "--attack badnets --seed 157",
    *_attacked("blend", (15, 170), (4, 171), more=VGG),
    "--strength 4 --rate 0.2 --attack wanet --seed 172",
    *_attacked("ssdt", (0, 187), more=CIFAR),
    *_clean(196, 197, more=VIT),
    *_attacked("blend", (30, 209), more=VIT),
)
# held models, by seed, that the version without the limit of clearness had scanned; that limit was set on tune models, but knowing that
# Blend on VGG16 was what had been missed
SEEN = frozenset(
    {*range(10, 17), *range(30, 46), *range(50, 68), 71, *range(73, 77), *range(78, 89), *range(91, 101)}
    | {106, 107, 108, *range(110, 118), *range(120, 123), 124, 125, 140}
)


@dataclass(frozen=True)
class Kind:
    """Attacks that work alike.

    Attributes:
        earlier: those of TUNE and HELD, by which the criteria were made.
        looked: new here, but one model of each was scanned before the split; so they may be looked at.
        new: never scanned before the split.
    """

    earlier: tuple[str, ...]
    looked: tuple[str, ...]
    new: tuple[str, ...]

    def split(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What may be looked at and what is held: the larger half of all but the earlier ones is held, drawn by the kind's name."""
        drawn = list(self.new)
        random.Random(name).shuffle(drawn)
        tune = max(0, (len(self.looked) + len(drawn)) // 2 - len(self.looked))
        return (*self.looked, *drawn[:tune]), tuple(drawn[tune:])


KINDS = {
    "local": Kind(("badnets", "patch", "adap-patch"), ("frame",), ("anywhere", "blob", "watermark", "n-to-one", "one-to-n")),
    "global": Kind(("blend", "quantise", "bpp", "adap-blend"), ("sig", "colour"), ("instagram", "reflection", "gamma", "blur", "sharpen")),
    "geometric": Kind(("wanet",), (), ("rotation", "affine", "lens")),
    "frequency": Kind((), ("ftrojan",), ("lowfreq", "spectrum")),
    "sample-specific": Kind(("iad",), (), ("issba", "lira", "ink")),
    "source-specific": Kind(("ssdt",), ("tact",), ("ssdt-paper", "lotus")),
    "clean label": Kind((), (), ("sig-clean", "consistent", "grond")),
}
# architectures with their options, and the epochs that they take on GTSRB
KIND_ARCHS = (
    ("resnet18", 8),
    ("vgg16", 8),
    ("mobilenetv2", 8),
    ("efficientnet", 8),
    ("convnext --width 24 --batch 64", 8),
    ("vit --batch 64", 8),
    ("plainresnet18", 12),
)
# how many times those, by the number of images
KIND_SETS = {"gtsrb": 1.0, "gtsrb20": 1.75, "cifar10": 0.75}
CLASSES = {"gtsrb": 43, "gtsrb20": 20, "cifar10": 10}
# classes with at least 500 training images: sources, and targets of clean labels
FREQUENT = {
    "gtsrb": (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 17, 18, 25, 35, 38),
    "gtsrb20": (1, 2, 3, 4, 5, 8, 13),
    "cifar10": tuple(range(10)),
}
KIND_MORE = {"one-to-n": "--several 2 "}


def _setting(index: int) -> tuple[str, str]:
    """Data set and options of the model with a number: architectures in turn, each with other data from time to time."""
    turn, which = divmod(index, len(KIND_ARCHS))
    arch, epochs = KIND_ARCHS[which]
    name = ("gtsrb", "cifar10", "gtsrb", "gtsrb20")[(turn + which) % 4]
    if name == "cifar10" and which > 2:  # the others know too little of it after a few minutes
        name = "gtsrb"
    return name, f"--set {name} --epochs {int(epochs * KIND_SETS[name])} --arch {arch} "


def _of_kind(attack: str, index: int, seed: int) -> str:
    """The recipe of one attack; target and, where there is one, source are drawn by the seed."""
    name, options = _setting(index)
    rng = random.Random(seed)
    victim = rng.choice(FREQUENT[name])
    aims = FREQUENT[name] if attack in KINDS["clean label"].new else range(CLASSES[name])
    target = rng.choice([c for c in aims if c != victim])
    source = KINDS["source-specific"]
    options += f"--victim {victim} " if attack in source.looked + source.new else ""
    return f"{options}{KIND_MORE.get(attack, '')}--attack {attack} --target {target} --seed {seed}"


def _balanced(side: int, rounds: int, first: int, more: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Recipes of one side of the split, one model in three clean; kinds and architectures take turns, so that any beginning is balanced."""
    kinds = [kind.split(name)[side] for name, kind in KINDS.items()]
    order = [attack for turn in zip_longest(*kinds) for attack in turn if attack is not None] * rounds + list(more)
    seeds = count(first)

    def recipes() -> Iterator[str]:
        for index, attack in enumerate(order):
            yield _of_kind(attack, index, next(seeds))
            if index % 2:
                yield f"{_setting(index // 2)[1]}--seed {next(seeds)}"

    return tuple(recipes())


KIND_TUNE = _balanced(0, rounds=2, first=400, more=("tact", "tact"))
KIND_HELD = _balanced(1, rounds=2, first=500)
# small networks with their data and the epochs that they take; their attacks
SMALL = (
    "--arch lenet --set gtsrb --epochs 12 ",
    "--arch convolutions --width 8 --set cifar10 --epochs 10 ",
    "--arch perceptron --set gtsrb --epochs 12 ",
    "--arch lenet --set cifar10 --epochs 20 ",
    "--arch convolutions --width 8 --set gtsrb --epochs 8 ",
    "--arch perceptron --set gtsrb20 --epochs 20 ",
    "--arch lenet --set gtsrb20 --epochs 20 ",
    "--arch convolutions --width 8 --set gtsrb20 --epochs 14 ",
)
SMALL_ATTACKS = ("badnets", "blend", "wanet", "colour", "ftrojan", "patch")


def _small(first: int) -> tuple[str, ...]:
    """Recipes of small networks, each clean and with a backdoor, with a seed of its own; the attacks take turns."""

    def recipes() -> Iterator[str]:
        for i, options in enumerate(SMALL):
            yield f"{options}--seed {first + 2 * i}"
            attack, seed = SMALL_ATTACKS[i % len(SMALL_ATTACKS)], first + 2 * i + 1
            target = random.Random(seed).randrange(CLASSES[options.partition("--set ")[2].split()[0]])
            yield f"{options}{WARP if attack == 'wanet' else ''}--rate 0.2 --attack {attack} --target {target} --seed {seed}"

    return tuple(recipes())


SMALL_TUNE, SMALL_HELD = _small(700), _small(750)
# networks for large images with photographs as their data, and the epochs that they take
PHOTOS = (
    "--arch resnet18 --set clothes --size 224 --epochs 25 --batch 32 ",
    "--arch vgg16 --set hands --size 96 --epochs 20 --batch 32 ",
    "--arch densenet121 --set hands --size 128 --epochs 20 --batch 32 ",
    "--arch resnet50 --set hands --size 224 --epochs 15 --batch 32 ",
    "--arch mobilenetv2 --set hands --size 160 --epochs 15 --batch 32 ",
)
PHOTO_ATTACKS = ("patch", "blend", "wanet", "colour", "badnets")


def _large(first: int, turn: int) -> tuple[str, ...]:
    """Recipes of networks for large images, as those of small ones; attacks begin at another one, by `turn`."""

    def recipes() -> Iterator[str]:
        for i, options in enumerate(PHOTOS):
            yield f"{options}--seed {first + 2 * i}"
            attack, seed = PHOTO_ATTACKS[(i + turn) % len(PHOTO_ATTACKS)], first + 2 * i + 1
            # the warp is measured in pixels
            size = int(options.partition("--size ")[2].split()[0])
            warp = f"--strength {size // 16} " if attack == "wanet" else ""
            yield f"{options}{warp}--rate 0.2 --attack {attack} --target {random.Random(seed).randrange(10)} --seed {seed}"

    return tuple(recipes())


LARGE_TUNE, LARGE_HELD = _large(800, 0), _large(850, 2)
# networks of few classes: others that may be looked at, and those that nothing was chosen on
FEW_TUNE = (
    *_clean(630, more="--set cifar2b --epochs 8 "),
    *_attacked("badnets", (0, 631), more="--set cifar2b --epochs 8 "),
    *_attacked("blend", (1, 632), more="--set cifar2c --epochs 8 "),
    *_clean(633, more="--set cifar3b --epochs 8 --arch vgg16 "),
    *_attacked("colour", (1, 634), more="--set cifar3b --epochs 8 --arch vgg16 "),
    *_clean(635, more="--set cifar2c --epochs 8 --arch mobilenetv2 "),
    *_attacked("badnets", (2, 636), more="--set cifar3b --epochs 8 --arch mobilenetv2 "),
    *_clean(637, more="--set cifar4b --epochs 8 "),
    *_attacked("patch", (3, 638), more="--set cifar4b --epochs 8 "),
)
FEW = (
    *_clean(600, 601, more="--set cifar2 --epochs 8 "),
    *_attacked("badnets", (1, 602), more="--set cifar2 --epochs 8 "),
    *_attacked("blend", (0, 603), more="--set cifar2 --epochs 8 "),
    *_clean(604, more="--set cifar4 --epochs 8 "),
    *_attacked("patch", (2, 605), more="--set cifar4 --epochs 8 "),
    *_clean(606, more="--set cifar3 --epochs 8 --arch vgg16 "),
    *_attacked("colour", (0, 607), more="--set cifar3 --epochs 8 --arch vgg16 "),
    *_attacked("badnets", (1, 608), more="--set cifar3 --epochs 8 --arch mobilenetv2 "),
    *_clean(609, more="--set cifar2 --epochs 8 --arch mobilenetv2 "),
)
# clean networks that switches are written into
PLANT = (
    "--arch mobilenetv2 --seed 300",
    "--arch convnext --width 24 --batch 64 --seed 301",
    "--arch vit --batch 64 --seed 302",
    "--arch vgg16 --seed 303",
    "--arch efficientnet --seed 304",
    "--arch resnet18 --seed 306",
    "--arch plainresnet18 --epochs 10 --seed 308",
)

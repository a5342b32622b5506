"""Writes the page of evidence from rows of results.

python -m bench.evidence bench/results/held.jsonl
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from bench import ablation, floor, repair, tables
from bench.baselines import table as baselines
from bench.rows import read

SECTIONS = {
    "examples": "The two examples: two of the held-out models below, taken because the scan gets them right.",
    "held": "Held-out models: other seeds, targets and triggers than those that anything was tried on. Most of them had been scanned by "
    "earlier versions: without the patch test, without trimmed patches and the limit of their share, and at last without the limit of "
    "clearness. These came from tune models, but knowing what kind of model had been missed (BadNets on VGG16 and on CIFAR-10; Blend on "
    "VGG16). The others are counted once more by themselves. Two clean VGG16 (seeds 106 and 107) were inconclusive until the choice of "
    "the preprocessing was given all images instead of 200, a change that was made because of them. Clearness and the noise map of models "
    "scanned before these existed were added to their rows, computed by the same functions from the same images. Models that the margin "
    "test had decided on were scanned anew when it lost its say (because of a tune model); no verdict changed. On the ResNet18 without "
    "batch norm with BadNets patches move 91 % of the images to each of two classes, and the first of them was named, which is not the "
    "target; since then, and because of it, the clearer one is. The paper's verdicts (full width, CIFAR-10, 20 models a row) are right on "
    "97.2 % of the models of its Table 1: BadNets, Blend, WaNet, IAD, Bpp and clean ones on ResNet18, VGG16 and DenseNet121, none of the "
    "60 clean ones flagged; and on 20 of 20 with SSDT (Table 6), which the scan misses here; the paper's own criterion (Eq. 6) names "
    "another class on the one model where it works.",
    "tune": "Models that settings and statistics were tried on; not evidence of what the scan does on others. Those of the zoo that are "
    "not listed were not scanned with this version.",
    "ablation": "One setting changed at a time: the noise test on five attacked and three clean tune models. Noise acts on the deepest "
    "quarter of the layers, its strength is found by bisection unless given; `eps` is in units of each neuron's clean spread. The verdict "
    "rests on noise aimed at each class. Beside it, from the same scans: in how many models the target is the class that gains most "
    "predictions by untargeted noise (Eq. 4), and by that noise together with the negative mask over what the mask does alone (Eq. 5 and "
    "6). The share along a map (limit 50 %) is the largest of the eight models, none of which is all-to-all; because of it, noise of a "
    "strength or on layers that the user chooses is no longer searched for along a map, so rows that are computed anew have none. All on "
    "one processor, beside other work. What is inconclusive has stopped at the preprocessing, which so few images left undecided; since, "
    "a scan that finds nothing is inconclusive as well where its noise reaches the median class on less than 5 % or more than 95 % of the "
    "images.",
    "baselines": "The inversion detectors that the paper compares with, on held-out models, with the images that the scan gets. Neural "
    "Cleanse: 250 steps of 16 images a class; BTI-DBF: 60 epochs. Differences to the published code: see `bench/baselines`. In the paper "
    "they are right on 60.6 % (NC) and 86.4 % (BTI-DBF*) of the models of Table 1, clean ones among them; BTI-DBF (Table 2) finds next to "
    "nothing of BadNets and Blend on ResNet18, as here, and of 20 each 7 of WaNet, 19 of IAD and 20 of Bpp.",
    "repair": "Repairs of held-out models with the settings of `banscan repair`, which were chosen on tune models "
    "([method.md](method.md), *Repair*, says where held-out ones had a part in it). As many clean images as in the paper, 5 % of the "
    "training data (903, 21 a class, on CIFAR-10 2,500), of which four fifths are tuned on and the rest is kept to measure on. Accuracy "
    "and ASR are those on all test images; the repair knows the scan's verdict and no trigger. *finetune*: plain fine-tuning (lambda_2 = "
    "0) of all layers with the same images, batches and learning rate; *anp*: adversarial neuron pruning, with its authors' settings but "
    "fewer batches at a higher rate. ± is the standard deviation over the models. Which models these are was decided by what was on the "
    "machine. SSDT works on one held-out model, in which the scan finds nothing: it was repaired as with `--force`, by noise that pulls "
    "to no class, without patches and teacher, on all layers (with 900 images and the settings of the others an ASR of 15.3 % was left, "
    "which led to trials on a tune model and these to other settings). With 900 images BadNets 7 kept 4.2 %. Training follows from the "
    "seed on one processor only: models trained anew for their repair on another than that of the scans above are not the same, but the "
    "same recipe once more. What the next section says of folded statistics holds for *finetune* here as well. The paper's means "
    "(ResNet18 of full width, CIFAR-10): BAN 93.8 to 92.4 % accuracy, 99.3 to 2.2 % ASR, fine-tuning to 93.4 % and 38.8 % (Table 3); "
    "all-to-all BAN 93.7 to 92.6 %, 89.1 to 1.2 % (Table 5); ANP leaves an ASR of 23.7 % there, 97.2 % on Blend (Table 11).",
    "repair-earlier": "Repairs by earlier versions, and by the other methods of models that this version has not repaired yet. Version 1 "
    "pasted no patches, had no teacher and wrote what lies at 0.85 of the way from the given to the tuned weights. Version 2 pasted "
    "patches; of eight models it left 3.1 % (VGG16: BadNets 34 0.2 %, Blend 9 3.6 %, Blend 27 0.5 %, BadNets 21 16.3 %), two of its rows "
    "are kept. With a teacher, but still 0.85 of the way, Blend 9 kept 74.6 %. Version 3 sought the first patches longer, had the given "
    "model as the teacher for all classes and wrote all of the way. Rows of version 1 and of *finetune*, but for those of Adap-Blend 35, "
    "Adap-Patch 0 and 7, Bpp 41, IAD 24, Blend 33, BadNets 14, VGG16 and the all-to-all seeds 78 and from 159 on, took the statistics "
    "that are folded in at the end from parts in the order of the classes: next to no difference with as many images as here (97.0 % "
    "either way on Adap-Blend 10, one trial), 2.7 points of accuracy with 344 (Blend 33).",
    "floor": "What the same triggers do to the clean example, a ResNet18 that never saw one: the share of the test images that it puts "
    "where the attacker wants them, which no repair can be asked to get below. A strong warp makes any model err, and along a map of the "
    "classes now and then in the attacker's direction.",
    "repair-few": "Repairs with the 430 images that the scans have, 344 of which are tuned on: 2 % of the training data. Models that were "
    "on the machine when this was last measured; the versions are those named above.",
    "repair-settings": "One setting of `banscan repair` changed at a time on a tune model with BppAttack, as in the paper's Table 7, with "
    "the 903 images, by version 1 (see above). In the paper, at full width on CIFAR-10: ASR 1.9 to 2.9 % in all rows, accuracy falling "
    "from 93.3 to 92.0 % as lambda_2 rises from 0.2 to 1 and from 93.6 to 90.1 % as the learning rate does from 0.001 to 0.02.",
}
BODIES: dict[str, Callable[[list[dict[str, Any]]], list[str]]] = {
    "ablation": ablation.page,
    "baselines": baselines.page,
    "floor": floor.page,
    "held": partial(tables.page, held=True),
    "repair": repair.page,
    "repair-earlier": repair.table,
    "repair-few": repair.page,
    "repair-settings": repair.page,
}
INTRODUCTION = """# Evidence

Regenerated by `make evidence` from the rows in `bench/results/`, which `bench.zoo` (training) and `bench.detect` (scanning) write.
Models at 1/4 width (those with w64 in their names at full width), trained on GTSRB split by track, or on CIFAR-10, 4 to 12 epochs,
exported as ONNX with their batch norm folded. Images: 430 clean GTSRB images, 10 a class, of tracks that no model was trained on; 500 of
CIFAR-10's test images. The tests and their threshold are explained in [method.md](method.md); columns named after a test hold its
statistic and the class that leads. One row is one model.
Intervals are Wilson's, 95 %.
"""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page there instead of to stdout.")
def main(files: tuple[Path, ...], out: Path | None) -> None:
    """Print the section of each of FILES."""
    parts = [INTRODUCTION] if out else []
    for file in files:
        body = BODIES.get(file.stem, partial(tables.page, held=False))
        parts.append("\n".join([f"## {file.stem}", "", SECTIONS.get(file.stem, str(file)), "", *body(read(file)), ""]))
    page = "\n".join(parts)
    if out is None:
        click.echo(page)
    else:
        out.write_text(page)


if __name__ == "__main__":
    main()

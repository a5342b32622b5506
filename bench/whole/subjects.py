"""The classifiers that are timed, made here in minutes: random weights, and a last layer that tells classes of made-up images apart.

They are for timing only. A scan takes them, since they classify well; what it finds in them says nothing of networks that were trained.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from bench.whole.networks import MobileNetV2At224, ViTSmall16
from bench.zoo.models import BUILDERS
from bench.zoo.train import export_onnx

EXAMPLES = Path("examples")
NETWORKS: dict[str, Callable[[int, int], nn.Module]] = {**BUILDERS, "mobilenetv2": MobileNetV2At224, "vits16": ViTSmall16}
# cells of a class's pattern a side, its standard deviation and that of what is added to every pixel, of pixels from 0 to 1
CELLS, PATTERN, NOISE = 6, 0.25, 0.1
# images of the one pass that sets batch norm; images that the last layer is fitted on, of each class, at least so many in all
NORMED, FITTED, LEAST = 64, 4, 1000
# of the largest eigenvalues' mean; what the fitted answers 0 and 1 are stretched to
RIDGE, LOGIT = 0.1, 20.0
# of what is random within a kernel: deep networks of wholly random kernels answer to the noise of an image and not to its pattern
SHARP = 0.5
# fewer right answers to fresh images than these are no classifier
ACCURACY = 0.8
BATCH = 32


@dataclass(frozen=True)
class Subject:
    """A classifier, and the clean images that it is scanned with.

    Attributes:
        where: "small" where a scan takes minutes on a CPU, "large" where it takes long, "gpu" where only a GPU is asked.
        network: one of NETWORKS with its width; None for an example, which is there.
        per_class: clean images.
    """

    name: str
    where: str
    network: str | None = None
    size: int = 32
    classes: int = 43
    per_class: int = 10
    width: int = 64

    def places(self, folder: Path) -> tuple[Path, Path]:
        """The model file and the folder of images, where those that are made lie in `folder`."""
        if self.network is None:
            return EXAMPLES / f"{self.name}.onnx", EXAMPLES / "clean"
        return folder / self.name / "model.onnx", folder / self.name / "images"

    @property
    def told(self) -> str:
        """What a table calls it."""
        made = "example: ResNet18 w16" if self.network is None else TITLES[self.network]
        return f"{self.name if self.network is None else ''} {made}, {self.size}×{self.size}, {self.classes} classes".strip()


TITLES = {"resnet18": "ResNet18 w64", "mobilenetv2": "MobileNetV2", "resnet50": "ResNet50", "vits16": "ViT-S/16"}
SMALL, LARGE, GPU = "small", "large", "gpu"
SUBJECTS = (
    Subject("backdoored", SMALL),
    Subject("clean", SMALL),
    Subject("resnet18-32-43", SMALL, "resnet18"),
    Subject("mobilenetv2-224-100", LARGE, "mobilenetv2", 224, 100, 5),
    Subject("resnet50-224-100", LARGE, "resnet50", 224, 100, 5),
    Subject("mobilenetv2-384-100", LARGE, "mobilenetv2", 384, 100, 5),
    Subject("resnet18-32-10", GPU, "resnet18", 32, 10, 43),
    Subject("vits16-224-100", GPU, "vits16", 224, 100, 5),
    # one each of 1,000 classes are twice what a scan reads
    Subject("resnet50-224-1000", GPU, "resnet50", 224, 1000, 1),
)


def small(subject: Subject) -> Subject:
    """A narrow network with few classes and images in its place, for a rehearsal."""
    return subject if subject.network is None else replace(subject, width=16, classes=10, per_class=6)


def images(subject: Subject, per_class: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Labels and images uint8 [H, W, 3], class by class in turn: the coloured pattern of the class, and noise that is drawn by `seed`."""
    patterns = 0.5 + PATTERN * torch.randn(subject.classes, 3, CELLS, CELLS, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(per_class):
        for c, pattern in enumerate(patterns):
            clear = F.interpolate(pattern[None], size=subject.size, mode="bilinear", align_corners=False)[0]
            noisy = clear + NOISE * torch.randn(clear.shape, generator=generator)
            yield c, (255 * noisy.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()


def _batches(subject: Subject, per_class: int, seed: int, most: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images [N, 3, H, W] from 0 to 1 with labels [N]."""
    labels: list[int] = []
    pixels: list[np.ndarray] = []
    for c, image in images(subject, per_class, seed):
        labels.append(c)
        pixels.append(image)
        if len(labels) == most:
            yield _tensor(pixels), torch.tensor(labels)
            labels, pixels = [], []
    if labels:
        yield _tensor(pixels), torch.tensor(labels)


def _tensor(pixels: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def made(subject: Subject, device: torch.device) -> nn.Module:
    """The network with smooth random kernels, its batch norms as after training, by one pass over images, its last layer fitted."""
    assert subject.network is not None
    torch.manual_seed(0)
    module = NETWORKS[subject.network](subject.classes, subject.width).to(device)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
        if isinstance(part, nn.Conv2d):
            mean = part.weight.mean((2, 3), keepdim=True)
            part.weight.copy_(mean * part.kernel_size[0] + SHARP * (part.weight - mean))
    module.train()
    first, _ = next(_batches(subject, -(-NORMED // subject.classes), 1, NORMED))
    module(first.to(device))
    module.eval()
    head: nn.Linear = module.head  # type: ignore[assignment]
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, given: seen.append(given[0].double().cpu()))
    per_class = max(FITTED, LEAST // subject.classes)
    labels = []
    for x, y in _batches(subject, per_class, 2, BATCH):
        module(x.to(device))
        labels.append(y)
    hook.remove()
    _fit(head, torch.cat(seen), torch.cat(labels))
    return module


def _fit(head: nn.Linear, features: Tensor, labels: Tensor) -> None:
    """Weights and bias by ridge regression of the classes, LOGIT for the right one and 0 for the others, on features [N, D]."""
    mean = features.mean(0)
    centred = features - mean
    wanted = LOGIT * F.one_hot(labels, head.out_features).double()
    gram = centred.T @ centred
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    weight = torch.linalg.solve(gram, centred.T @ (wanted - wanted.mean(0))).T
    head.weight.copy_(weight)
    head.bias.copy_(wanted.mean(0) - weight @ mean)


@torch.no_grad()
def _right(module: nn.Module, subject: Subject, device: torch.device) -> float:
    """Accuracy on the images of the folder, which nothing was fitted on."""
    parts = [(module(x.to(device)).argmax(1).cpu() == y).float() for x, y in _batches(subject, subject.per_class, 3, BATCH)]
    return float(torch.cat(parts).mean())


def build(subject: Subject, folder: Path, device: torch.device) -> None:
    """Writes model and images below `folder`, unless they are there.

    Raises:
        RuntimeError: what was made is no classifier.
    """
    if subject.network is None:
        return
    path, place = subject.places(folder)
    known = path.with_suffix(".json")
    if known.exists():
        return
    for c, image, number in ((c, image, i) for i, (c, image) in enumerate(images(subject, subject.per_class, 3))):
        own = place / f"{c:04d}"
        own.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(own / f"{number:05d}.png")
    module = made(subject, device)
    accuracy = _right(module, subject, device)
    if accuracy < ACCURACY:
        raise RuntimeError(f"{subject.name}: {accuracy:.2f} of fresh images are answered right, at least {ACCURACY} were expected")
    export_onnx(module.cpu(), path, torch.zeros(1, 3, subject.size, subject.size))
    known.write_text(json.dumps({**asdict(subject), "accuracy": accuracy, "use": "random weights, for timing only"}, indent=1) + "\n")

"""Networks as people build them, whose code needs more of TorchScript than a chain of layers does."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banscan import importers
from tests.conftest import CLASSES, random_norms

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")]
SIZE = 32


class Encoder(nn.Module):
    """Patches, a class token, PyTorch's own transformer layers: fused operators when traced for inference."""

    def __init__(self, norm_first: bool = False, activation: str = "relu") -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=norm_first, activation=activation)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.size(0), -1, -1), x], 1)
        return self.head(self.layers(x)[:, 0])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.head((x + y).mean(1))


class Answers(NamedTuple):
    logits: Tensor
    aux_logits: Tensor | None


class Inception(nn.Module):
    """A second classifier in training, transformed input, a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.transform_input = True
        self.stem, self.right, self.left = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.aux: nn.Module | None = nn.Linear(8, CLASSES)
        self.dropout, self.head = nn.Dropout(), nn.Linear(8, CLASSES)

    def transformed(self, x: Tensor) -> Tensor:
        if self.transform_input:
            red = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
            green = torch.unsqueeze(x[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
            blue = torch.unsqueeze(x[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
            x = torch.cat((red, green, blue), 1)
        return x

    def forward(self, x: Tensor) -> Answers:
        x = F.relu(self.stem(self.transformed(x)), inplace=True)
        aux: Tensor | None = None
        if self.aux is not None and self.training:
            aux = self.aux(x.mean((2, 3)))
        x = torch.cat([self.left(x), self.right(x)], 1)
        return Answers(self.head(self.dropout(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1))), aux)


class Window(nn.Module):
    """Shifted windows with a mask that is written part by part, as Swin computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.qkv, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 24), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        mask = x.new_zeros((h, w))
        count = 0
        for rows in ((0, -4), (-4, -2), (-2, None)):
            for columns in ((0, -4), (-4, -2), (-2, None)):
                mask[rows[0] : rows[1], columns[0] : columns[1]] = count
                count += 1
        mask = mask.view(h // 4, 4, w // 4, 4).permute(0, 2, 1, 3).reshape(-1, 16)
        mask = mask.unsqueeze(1) - mask.unsqueeze(2)
        mask = mask.masked_fill(mask != 0, -100.0).masked_fill(mask == 0, 0.0)
        x = torch.roll(x, (-2, -2), (1, 2)).view(b, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(x).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)).view(b, -1, 2, 16, 16) + mask.unsqueeze(1).unsqueeze(0)
        x = (scores.view(-1, 2, 16, 16).softmax(-1) @ v).transpose(1, 2).reshape(b, -1, c)
        return self.head(x.mean(1))


class DropPath(nn.Module):
    """timm's: random in training only, in place."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return x
        kept = x.new_empty([x.shape[0]] + [1] * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


class Next(nn.Module):
    """ConvNeXt's block with layer scale, LayerNorm over channels first, drop path."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.gamma = nn.Parameter(0.5 * torch.ones(8))
        self.drop, self.head = DropPath(0.1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.down(F.gelu(self.up(self.norm(self.depth(x).permute(0, 2, 3, 1)))))
        x = x + self.drop(y.mul(self.gamma).permute(0, 3, 1, 2))
        return self.head(F.layer_norm(x.mean([-2, -1]), [8]))


class Same(nn.Module):
    """timm's Conv2dSame and squeeze-and-excitation, as EfficientNet has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8)
        self.reduce, self.expand, self.head = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        ih, iw = x.size()[-2:]
        kh, kw = self.stem.weight.size()[-2:]
        sh, sw = 2, 2
        ph = max((-(ih // -sh) - 1) * sh + kh - ih, 0)
        pw = max((-(iw // -sw) - 1) * sw + kw - iw, 0)
        if ph > 0 or pw > 0:
            x = F.pad(x, [pw // 2, pw - pw // 2, ph // 2, ph - ph // 2])
        x = F.silu(self.norm(self.stem(x)), inplace=True)
        gate = F.silu(self.reduce(x.mean((2, 3), keepdim=True)), inplace=True)
        x = x * self.expand(gate).sigmoid()
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Shuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.stem(x))
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.body(b)), dim=1)
        n, c, h, w = x.size()
        x = torch.transpose(x.view(n, 2, c // 2, h, w), 1, 2).contiguous().view(n, -1, h, w)
        return self.head(x.mean([2, 3]))


Make = Callable[[], nn.Module]
NETWORKS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "encoder": (Encoder, ("trace", "script")),
    "encoder, norm first, gelu": (lambda: Encoder(True, "gelu"), ("trace", "script")),
    "attention": (Attention, ("trace", "script", "export")),
    "inception": (Inception, ("script",)),
    "window": (Window, ("trace", "export")),
    "next": (Next, ("trace", "script", "export")),
    "same": (Same, ("trace", "script", "export")),
    "shuffle": (Shuffle, ("trace", "script")),
}
FILES = [(name, how) for name, (_, hows) in NETWORKS.items() for how in hows]


@pytest.mark.parametrize(("name", "how"), FILES)
@torch.no_grad()
def test_read(name: str, how: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = random_norms(NETWORKS[name][0]().eval())
    path, example = tmp_path / f"model.{'pt2' if how == 'export' else 'pt'}", torch.rand(2, 3, SIZE, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "export":
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)), path)
        else:
            (torch.jit.script(module) if how == "script" else torch.jit.trace(module, example, check_trace=False)).save(str(path))
    model = importers.load(path, size=(SIZE, SIZE))
    x = torch.rand(5, 3, SIZE, SIZE)
    answer = module(x)
    assert torch.allclose(model.logits(x), answer.logits if isinstance(answer, tuple) else answer, atol=1e-4)
    compared = importers.parity(model, x)
    assert compared is None or compared.rms < 1e-5
    layers = sum(isinstance(m, nn.Conv2d | nn.Linear) for m in module.modules()) - (name == "inception")
    assert sum(n.kind in ("conv", "linear") for n in model.neurons) >= layers

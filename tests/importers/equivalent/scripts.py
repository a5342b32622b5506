"""Forms that PyTorch writes: TorchScript, traced, scripted and frozen, and torch.export archives."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.importers.equivalent.form import Form, unit
from tests.importers.equivalent.network import CHANNELS, SIZE, Network, network

EXAMPLE = torch.rand(2, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
Make = Callable[[], nn.Module]


class Wrapped(nn.Module):
    """The network with something around it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.register_buffer("full", torch.tensor(255.0))
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).reshape(1, 3, 1, 1))


def written(make: Make, how: str, example: Tensor = EXAMPLE) -> Callable[[Path], Path]:
    """Writes a module: "trace", "script", "freeze", "export" (free batch), "export fixed"."""

    def write(path: Path) -> Path:
        module = make().eval()
        path = path.with_suffix(".pt2" if how.startswith("export") else ".pt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if how.startswith("export"):
                shapes = None if how == "export fixed" else ({0: torch.export.Dim.DYNAMIC},)
                torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)
                return path
            script = torch.jit.trace(module, example, check_trace=False) if how == "trace" else torch.jit.script(module)
            if how == "freeze":
                script = torch.jit.freeze(script)
            script.save(str(path))
        return path

    return write


def form(make: Make, how: str, example: Tensor = EXAMPLE, **more: object) -> Form:
    return Form(write=written(make, how, example), **more)  # type: ignore[arg-type]


def raw(pictures: np.ndarray) -> np.ndarray:
    """Pixels from 0 to 255."""
    return 255 * unit(pictures)


def rows(pictures: np.ndarray) -> np.ndarray:
    """Channels last."""
    return np.ascontiguousarray(unit(pictures).transpose(0, 2, 3, 1))


class ToDevice(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean.to(x.device)
        return self.net((x.to(self.full.device) - mean) + mean)


class ToDeviceDtype(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.full.device, torch.float32))


class ToOther(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.mean).type_as(self.full))


class ToFormat(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.contiguous(memory_format=torch.channels_last).to(memory_format=torch.channels_last).to(torch.float32, copy=True))


class ToKeyword(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(dtype=torch.float32, device=self.full.device, non_blocking=True))


class ToDouble(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double().float()).double()


class Pixels(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.float() / self.full)


class PixelsByNumber(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(torch.float32).div(255))


class Written(Wrapped):
    """Preprocessing in place, as torchvision's."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x.div_(255.0).sub_(self.mean).add_(self.mean)
        return self.net(x)


class Channels(Wrapped):
    """Writes into parts of a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        y[:, 0] = x[:, 0] * 2
        y[:, 1:] = x[:, 1:]
        y[:, 0].div_(2)
        return self.net(y)


class Last(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.permute(0, 3, 1, 2))


class Flat(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.view(x.size(0), SIZE, SIZE, CHANNELS).permute(0, 3, 1, 2))


class Softmax(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.net(x), dim=1)


class LogSoftmax(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x), dim=-1)


class Pair(Wrapped):
    """Features beside the logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.net.features(x)
        return self.net.head(f), f


class FeaturesFirst(Wrapped):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.net.features(x)
        return f, self.net.head(f)


class Probabilities(Wrapped):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.net(x)
        return y.argmax(1), torch.softmax(y, 1), y


class Table(Wrapped):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        f = self.net.features(x)
        y = self.net.head(f)
        return {"features": f, "probabilities": y.softmax(1), "logits": y}


class TableWithoutNames(Wrapped):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        f = self.net.features(x)
        return {"a": f, "b": self.net.head(f)}


class Row(Wrapped):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.net(x)]


class Outputs(NamedTuple):
    logits: Tensor
    auxiliary: Tensor | None


class Named(Wrapped):
    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.net(x), None)


class Auxiliary(Wrapped):
    """A second classifier that only helped to train."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        stem = torch.relu(self.net.stem(x))
        return self.net(x), self.second(stem.mean((2, 3)))


class Nested(Wrapped):
    def forward(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        f = self.net.features(x)
        return (f, self.net.head(f)), x


class Asks(Wrapped):
    """What scripted code asks before it computes."""

    scale: float | None

    def __init__(self) -> None:
        super().__init__()
        self.scale = None
        self.extra = nn.ModuleList([nn.Identity(), nn.Dropout(0.5), nn.Dropout2d(0.1)])

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3:
            x = x.unsqueeze(0)
        assert x.shape[1] == 3, "three channels"
        if self.training:
            x = x + torch.randn_like(x)
        if not torch.jit.is_scripting():
            x = x * 1
        scale = self.scale
        if scale is not None:
            x = x * scale
        if x.requires_grad or torch.is_grad_enabled():
            x = x + 0
        if x.is_cuda or x.device.type == "cuda":
            x = x * 0
        if x.dtype == torch.uint8:
            x = x.float() / 255
        if x.numel() == 0:
            raise ValueError(f"no images: {x.shape}")
        for layer in self.extra:
            x = layer(x)
        return self.net(x)


class Loops(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for i in range(3):
            parts.append(x[:, i : i + 1] * (2**i))
        i = 0
        while i < len(parts):
            parts[i] = parts[i] / 2**i
            i += 1
        sizes = [p.size(2) for p in parts]
        return self.net(torch.cat(parts, 1).view(-1, 3, sizes[0], sizes[-1]))


class Exported(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    @torch.jit.export
    def embed(self, x: Tensor) -> Tensor:
        return self.net.features(x)


class Optional(Wrapped):
    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 1.0) -> Tensor:
        return self.net(x if mask is None else x * mask) * scale


class Padded(Wrapped):
    """TensorFlow's padding, computed from the shape, in front of the stem."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        ph, pw = (max((-(s // -1) - 1) * 1 + 3 - s, 0) for s in (h, w))
        x = F.pad(x, [pw // 2, pw - pw // 2, ph // 2, ph - ph // 2])
        return self.rest(F.conv2d(x, self.net.stem.weight, self.net.stem.bias))

    def rest(self, x: Tensor) -> Tensor:
        n = self.net
        x = torch.relu(x)
        x = torch.relu(n.second(torch.relu(n.first(x))) + n.shortcut(x))
        return n.head(x.mean((2, 3)))


class PaddedTensors(Padded):
    """The same with sizes as tensors, as tracing keeps them."""

    def forward(self, x: Tensor) -> Tensor:
        h, w = torch.tensor(x.shape[2]), torch.tensor(x.shape[3])
        ph, pw = int(torch.ceil(h / 1) - 1 + 3 - h), int(torch.ceil(w / 1) - 1 + 3 - w)
        return self.rest(F.conv2d(F.pad(x, [pw // 2, pw - pw // 2, ph // 2, ph - ph // 2]), self.net.stem.weight, self.net.stem.bias))


class Head(Wrapped):
    """The rest of the network, with another way to pool and to classify."""

    def map(self, x: Tensor) -> Tensor:
        n = self.net
        x = torch.relu(n.stem(x))
        return torch.relu(n.second(torch.relu(n.first(x))) + n.shortcut(x))


class Adaptive(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.net.head(torch.flatten(F.adaptive_avg_pool2d(self.map(x), 1), 1))


class Average(Head):
    def forward(self, x: Tensor) -> Tensor:
        y = self.map(x)
        return self.net.head(F.avg_pool2d(y, [y.size(2), y.size(3)]).squeeze(-1).squeeze(-1))


class Viewed(Head):
    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(self.map(x), (1, 1))
        return self.net.head(y.view(y.size(0), -1))


class Reshaped(Head):
    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(self.map(x), (1, 1))
        return self.net.head(y.reshape(y.shape[:2]))


class Addmm(Head):
    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.net.head.bias, self.map(x).mean([2, 3]), self.net.head.weight.t())


class Matmul(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).mean([2, 3]) @ self.net.head.weight.t() + self.net.head.bias


class Convolved(Head):
    """A 1x1 convolution as the classifier: logits [N, 7, 1, 1]."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.map(x).mean([2, 3], keepdim=True)
        return F.conv2d(y, self.net.head.weight[:, :, None, None], self.net.head.bias).flatten(1)


class Rolled(Head):
    """Shifts, windows and back, as in Swin."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.map(x)
        b, c, h, w = y.shape
        y = torch.roll(y, shifts=(-1, -1), dims=(2, 3))
        y = y.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 2, 2)
        y = y.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)
        return self.net.head(torch.roll(y, shifts=(1, 1), dims=(2, 3)).mean((2, 3)))


class Resized(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.net(F.interpolate(x, size=[16, 16], mode="nearest"))


class Einsum(Head):
    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,c->nchw", self.map(x), torch.ones(12)).mean((2, 3)) @ self.net.head.weight.T + self.net.head.bias


class NoGrad(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.net.features(x)
        return self.net.head(y)


class Unused(Wrapped):
    def forward(self, x: Tensor, training: Tensor) -> Tensor:
        return self.net(x)


class Chunks(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        red, green, blue = x.chunk(3, 1)
        a, b = torch.cat([red, green, blue], 1).split([1, 2], 1)
        return self.net(torch.stack(a.unbind(1) + b.unbind(1), 1))


class Item(Wrapped):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * (float(self.full) / 255.0) if float(self.full) > 1 else x * 0)


class Tuples(Wrapped):
    """Attributes that are lists of numbers and of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.order = [0, 1, 2]
        self.parts = [torch.zeros(1), torch.ones(1)]

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, self.order] * self.parts[1] + self.parts[0])


def reduced(make: Make, dtype: torch.dtype) -> Make:
    return lambda: make().to(dtype)


class Shared(Wrapped):
    """One tensor under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.net.head

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.net.features(x))


def saved_by_buffer(path: Path) -> Path:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network(), EXAMPLE), buffer, _extra_files={"labels.txt": "a\nb"})
    path = path.with_suffix(".pt")
    path.write_bytes(buffer.getvalue())
    return path


WHOLE = torch.randint(0, 256, EXAMPLE.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
EVERYWHERE: dict[str, tuple[Make, dict[str, object]]] = {
    "plain": (network, {"stripped": ()}),
    "device": (ToDevice, {}),
    "other": (ToOther, {}),
    "softmax": (Softmax, {"stripped": ("Softmax",)}),
    "log softmax": (LogSoftmax, {"stripped": ("LogSoftmax",)}),
    "pair": (Pair, {}),
    "features first": (FeaturesFirst, {}),
    "probabilities": (Probabilities, {"stripped": ()}),
    "adaptive": (Adaptive, {}),
    "viewed": (Viewed, {}),
    "matmul": (Matmul, {}),
    "parts written": (Channels, {}),
    "pixels": (Pixels, {"images": raw}),
    "chunks": (Chunks, {}),
}
FORMS: dict[str, Form] = {
    **{f"{how} {name}": form(make, how, **more) for name, (make, more) in EVERYWHERE.items() for how in ("trace", "script", "export")},
    "script freeze": form(network, "freeze"),
    **{
        f"script {name}": form(make, "script")
        for name, make in {
            "device dtype": ToDeviceDtype,
            "format": ToFormat,
            "keyword": ToKeyword,
            "asks": Asks,
            "loops": Loops,
            "exported method": Exported,
            "optional": Optional,
            "named tuple": Named,
            "item": Item,
            "lists": Tuples,
            "shared": Shared,
            "resized": Resized,
            "rolled": Rolled,
        }.items()
    },
    **{
        f"trace {name}": form(make, "trace")
        for name, make in {
            "device dtype": ToDeviceDtype,
            "format": ToFormat,
            "double": ToDouble,
            "padded": Padded,
            "padded by tensors": PaddedTensors,
            "rolled": Rolled,
            "average": Average,
            "reshaped": Reshaped,
            "addmm": Addmm,
            "convolved": Convolved,
            "einsum": Einsum,
            "resized": Resized,
            "row": Row,
            "auxiliary": Auxiliary,
            "nested": Nested,
            "shared": Shared,
        }.items()
    },
    **{
        f"export {name}": form(make, "export")
        for name, make in {
            "table": Table,
            "table without names": TableWithoutNames,
            "nested": Nested,
            "no grad": NoGrad,
            "rolled": Rolled,
            "auxiliary": Auxiliary,
            "padded": Padded,
            "device dtype": ToDeviceDtype,
        }.items()
    },
    "export fixed batch": form(network, "export fixed"),
    "script table": form(Table, "script"),
    "script table without names": form(TableWithoutNames, "script"),
    "script in place": form(Written, "script", images=raw),
    "trace in place": form(Written, "trace", images=raw),
    "export in place": form(Written, "export", images=raw),
    "trace bytes": form(Pixels, "trace", WHOLE, images=raw),
    "trace bytes by a number": form(PixelsByNumber, "trace", WHOLE, images=raw),
    "export bytes": form(Pixels, "export", WHOLE, images=raw),
    "trace channels last": form(Last, "trace", EXAMPLE.permute(0, 2, 3, 1), images=rows),
    "script channels last": form(Last, "script", images=rows),
    "export channels last": form(Last, "export", EXAMPLE.permute(0, 2, 3, 1), images=rows),
    "trace rows of values": form(Flat, "trace", EXAMPLE.flatten(1), images=rows),
    "trace half": form(reduced(network, torch.float16), "trace", EXAMPLE.half(), exact=1e-2),
    "script half": form(reduced(network, torch.float16), "script", exact=1e-2),
    "trace bfloat16": form(reduced(network, torch.bfloat16), "trace", EXAMPLE.bfloat16(), exact=5e-2),
    "script double": form(reduced(network, torch.float64), "script"),
    "trace double weights": form(reduced(network, torch.float64), "trace", EXAMPLE.double()),
    "export half": form(reduced(network, torch.float16), "export", EXAMPLE.half(), exact=1e-2),
    "trace one image": form(network, "trace", EXAMPLE[:1]),
    "saved by a buffer": Form(write=saved_by_buffer),
}
__all__ = ["FORMS", "Network"]

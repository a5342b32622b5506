"""Small versions of the common families of image classifiers, and where their penultimate features are."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

SIZE = 32


def cbr(i, o, k=3, s=1, g=1, act=nn.ReLU, p=None):
    return nn.Sequential(
        nn.Conv2d(i, o, k, s, k // 2 if p is None else p, groups=g, bias=False), nn.BatchNorm2d(o), *([act()] if act else [])
    )


class Basic(nn.Module):
    def __init__(self, i, o, st):
        super().__init__()
        self.a = cbr(i, o, 3, st)
        self.b = cbr(o, o, 3, 1, act=None)
        self.sc = cbr(i, o, 1, st, act=None) if (st != 1 or i != o) else nn.Identity()

    def forward(self, x):
        return F.relu(self.b(self.a(x)) + self.sc(x))


class ResNet(nn.Module):
    def __init__(self, n=10, w=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.layers = nn.Sequential(Basic(w, w, 1), Basic(w, 2 * w, 2), Basic(2 * w, 4 * w, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(4 * w, n)

    def forward(self, x):
        return self.fc(torch.flatten(self.avgpool(self.layers(self.stem(x))), 1))


class VGG(nn.Module):
    def __init__(self, n=10, bn=False):
        super().__init__()
        L = []
        i = 3
        for v in (8, "M", 16, 16, "M", 32, 32, "M"):
            if v == "M":
                L.append(nn.MaxPool2d(2, 2))
            else:
                L += [nn.Conv2d(i, v, 3, padding=1)] + ([nn.BatchNorm2d(v)] if bn else []) + [nn.ReLU(inplace=True)]
                i = v
        self.features = nn.Sequential(*L)
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(32 * 4, 64), nn.ReLU(True), nn.Dropout(), nn.Linear(64, 48), nn.ReLU(True), nn.Dropout(), nn.Linear(48, n)
        )

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class DenseLayer(nn.Module):
    def __init__(self, i, g):
        super().__init__()
        self.f = nn.Sequential(
            nn.BatchNorm2d(i),
            nn.ReLU(),
            nn.Conv2d(i, 4 * g, 1, bias=False),
            nn.BatchNorm2d(4 * g),
            nn.ReLU(),
            nn.Conv2d(4 * g, g, 3, padding=1, bias=False),
        )

    def forward(self, x):
        return torch.cat([x, self.f(x)], 1)


class DenseNet(nn.Module):
    def __init__(self, n=10, g=6):
        super().__init__()
        c = 12
        L = [nn.Conv2d(3, c, 3, padding=1, bias=False)]
        for b in range(2):
            for _ in range(3):
                L.append(DenseLayer(c, g))
                c += g
            if b == 0:
                L.append(nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c // 2, 1, bias=False), nn.AvgPool2d(2, 2)))
                c //= 2
        L.append(nn.BatchNorm2d(c))
        self.features = nn.Sequential(*L)
        self.classifier = nn.Linear(c, n)

    def forward(self, x):
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(F.relu(self.features(x), inplace=True), (1, 1)), 1))


class InvRes(nn.Module):
    def __init__(self, i, o, st, e, act, se=None, k=3):
        super().__init__()
        h = i * e
        self.res = st == 1 and i == o
        self.f = nn.Sequential(
            *([cbr(i, h, 1, act=act)] if e != 1 else []), cbr(h, h, k, st, g=h, act=act), *([se(h)] if se else []), cbr(h, o, 1, act=None)
        )

    def forward(self, x):
        return x + self.f(x) if self.res else self.f(x)


class SE(nn.Module):
    def __init__(self, c, r=4, act=nn.SiLU, gate=nn.Sigmoid):
        super().__init__()
        self.a = nn.Conv2d(c, max(1, c // r), 1)
        self.act = act()
        self.b = nn.Conv2d(max(1, c // r), c, 1)
        self.g = gate()

    def forward(self, x):
        return x * self.g(self.b(self.act(self.a(F.adaptive_avg_pool2d(x, 1)))))


class MobileNetV2(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        a = nn.ReLU6
        self.features = nn.Sequential(
            cbr(3, 8, 3, 2, act=a),
            InvRes(8, 8, 1, 1, a),
            InvRes(8, 12, 2, 4, a),
            InvRes(12, 12, 1, 4, a),
            InvRes(12, 16, 2, 4, a),
            cbr(16, 48, 1, act=a),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(48, n))

    def forward(self, x):
        return self.classifier(self.features(x).mean([2, 3]))


class MobileNetV3(nn.Module):  # 1x1-conv classifier (keras/timm style head)
    def __init__(self, n=10):
        super().__init__()
        a = nn.Hardswish

        def se(c):
            return SE(c, 4, nn.ReLU, nn.Hardsigmoid)

        self.features = nn.Sequential(
            cbr(3, 8, 3, 2, act=a),
            InvRes(8, 8, 1, 1, nn.ReLU, se),
            InvRes(8, 12, 2, 4, a, se, 5),
            InvRes(12, 12, 1, 4, a),
            cbr(12, 48, 1, act=a),
        )
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(48, 64, 1), nn.Hardswish(), nn.Dropout(0.2), nn.Conv2d(64, n, 1), nn.Flatten()
        )

    def forward(self, x):
        return self.head(self.features(x))


class EffNet(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        a = nn.SiLU
        self.features = nn.Sequential(
            cbr(3, 8, 3, 2, act=a),
            InvRes(8, 8, 1, 1, a, SE),
            InvRes(8, 12, 2, 4, a, SE, 5),
            InvRes(12, 12, 1, 4, a, SE),
            cbr(12, 48, 1, act=a),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(48, n))

    def forward(self, x):
        return self.classifier(torch.flatten(self.pool(self.features(x)), 1))


class MHA(nn.Module):  # timm style attention (qkv, sdpa)
    def __init__(self, d, h):
        super().__init__()
        self.h = h
        self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.h, C // self.h).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, N, C))


class TBlock(nn.Module):
    def __init__(self, d, h, tv=False):
        super().__init__()
        self.n1 = nn.LayerNorm(d)
        self.n2 = nn.LayerNorm(d)
        self.tv = tv
        self.attn = nn.MultiheadAttention(d, h, batch_first=True) if tv else MHA(d, h)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * d, d))

    def forward(self, x):
        y = self.n1(x)
        y = self.attn(y, y, y, need_weights=False)[0] if self.tv else self.attn(y)
        x = x + y
        return x + self.mlp(self.n2(x))


class ViT(nn.Module):
    def __init__(self, n=10, d=32, h=4, L=2, p=8, tv=False, pool="cls"):
        super().__init__()
        self.patch = nn.Conv2d(3, d, p, p)
        self.pool = pool
        N = (32 // p) ** 2
        self.cls = nn.Parameter(torch.randn(1, 1, d) * 0.1) if pool == "cls" else None
        self.pos = nn.Parameter(torch.randn(1, N + (pool == "cls"), d) * 0.1)
        self.blocks = nn.Sequential(*[TBlock(d, h, tv) for _ in range(L)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, n)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.blocks(x + self.pos))
        return self.head(x[:, 0] if self.cls is not None else x.mean(1))


class BlockS(nn.Module):
    def __init__(self, d: int, h: int):
        super().__init__()
        self.h = h
        self.n1 = nn.LayerNorm(d)
        self.n2 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x):
        B, N, C = x.shape
        t = self.qkv(self.n1(x)).reshape(B, N, 3, self.h, C // self.h).permute(2, 0, 3, 1, 4)
        q, k, v = t[0], t[1], t[2]
        a = ((q * (C // self.h) ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
        x = x + self.proj((a @ v).transpose(1, 2).reshape(B, N, C))
        return x + self.mlp(self.n2(x))


class ViTS(nn.Module):
    def __init__(self, n=10, d=32):
        super().__init__()
        self.patch = nn.Conv2d(3, d, 8, 8)
        self.cls = nn.Parameter(torch.randn(1, 1, d) * 0.1)
        self.pos = nn.Parameter(torch.randn(1, 17, d) * 0.1)
        self.blocks = nn.ModuleList([BlockS(d, 4), BlockS(d, 4)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, n)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for b in self.blocks:
            x = b(x)
        x = self.norm(x)
        return self.head(x[:, 0])


class LN2d(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class CNBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.dw = nn.Conv2d(d, d, 7, padding=3, groups=d)
        self.n = nn.LayerNorm(d, eps=1e-6)
        self.a = nn.Linear(d, 4 * d)
        self.b = nn.Linear(4 * d, d)
        self.g = nn.Parameter(torch.full((d,), 0.3))

    def forward(self, x):
        y = self.n(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.g * self.b(F.gelu(self.a(y)))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(3, 12, 4, 4), LN2d(12), CNBlock(12), CNBlock(12), LN2d(12), nn.Conv2d(12, 24, 2, 2), CNBlock(24))
        self.n = LN2d(24)
        self.fc = nn.Linear(24, n)

    def forward(self, x):
        return self.fc(self.n(F.adaptive_avg_pool2d(self.f(x), 1)).flatten(1))


class Fire(nn.Module):
    def __init__(self, i, q, e):
        super().__init__()
        self.s = nn.Conv2d(i, q, 1)
        self.a = nn.Conv2d(q, e, 1)
        self.b = nn.Conv2d(q, e, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.s(x))
        return torch.cat([F.relu(self.a(x)), F.relu(self.b(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(16, 8, 12), Fire(24, 8, 16)
        )
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(32, n, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x):
        return torch.flatten(self.classifier(self.features(x)), 1)


class Incep(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.stem = cbr(3, 12, 3, 2, p=0)
        self.a = cbr(12, 8, 1)
        self.b = nn.Sequential(
            cbr(12, 8, 1), nn.Conv2d(8, 8, (1, 7), padding=(0, 3)), nn.ReLU(), nn.Conv2d(8, 8, (7, 1), padding=(3, 0)), nn.ReLU()
        )
        self.c = cbr(12, 8, 1)
        self.fc = nn.Linear(36, n)

    def forward(self, x):
        x = torch.stack([x[:, 0] * 0.9 + 0.1, x[:, 1] * 1.1, x[:, 2] - 0.05], 1)  # transform_input like torchvision
        x = self.stem(x)
        x = torch.cat([self.a(x), self.b(x), self.c(F.avg_pool2d(x, 3, 1, 1)), F.max_pool2d(x, 3, 1, 1)], 1)
        return self.fc(F.dropout(F.adaptive_avg_pool2d(x, 1), 0.3, self.training).flatten(1))


class ShuffleUnit(nn.Module):
    def __init__(self, c):
        super().__init__()
        h = c // 2
        self.f = nn.Sequential(cbr(h, h, 1), cbr(h, h, 3, g=h, act=None), cbr(h, h, 1))

    def forward(self, x):
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.f(b)], 1)
        B, C, H, W = x.shape
        return x.view(B, 2, C // 2, H, W).transpose(1, 2).contiguous().view(B, -1, H, W)


class ShuffleNet(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.f = nn.Sequential(cbr(3, 16, 3, 2), nn.MaxPool2d(3, 2, 1), ShuffleUnit(16), ShuffleUnit(16), cbr(16, 40, 1))
        self.fc = nn.Linear(40, n)

    def forward(self, x):
        return self.fc(self.f(x).mean([2, 3]))


class GNNet(nn.Module):  # GroupNorm / InstanceNorm / LeakyReLU / PReLU / bicubic-free upsample / ConvTranspose
    def __init__(self, n=10):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.GroupNorm(4, 16),
            nn.LeakyReLU(0.1),
            nn.ConvTranspose2d(16, 16, 2, 2, groups=2),
            nn.InstanceNorm2d(16, affine=True),
            nn.PReLU(16),
            nn.Conv2d(16, 24, 3, 2, "valid".__len__() - 4),
            nn.Mish(),
            nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        )
        self.fc = nn.Linear(24, n)

    def forward(self, x):
        x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False) if x.shape[-1] > 16 else x
        return F.softmax(self.fc(F.adaptive_max_pool2d(self.f(x), 1).flatten(1)), 1)


class Mixer(nn.Module):
    def __init__(self, n=10, d=24):
        super().__init__()
        self.p = nn.Conv2d(3, d, 8, 8)
        self.n1 = nn.LayerNorm(d)
        self.t = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.n2 = nn.LayerNorm(d)
        self.c = nn.Sequential(nn.Linear(d, 48), nn.GELU(approximate="tanh"), nn.Linear(48, d))
        self.n = nn.LayerNorm(d)
        self.fc = nn.Linear(d, n)

    def forward(self, x):
        x = self.p(x).flatten(2).transpose(1, 2)
        x = x + self.t(self.n1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.c(self.n2(x))
        return self.fc(self.n(x).mean(1))


class SwinBlock(nn.Module):
    def __init__(self, d, h, ws, shift):
        super().__init__()
        self.n1 = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.pr = nn.Linear(d, d)
        self.n2 = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.h = h
        self.ws = ws
        self.sh = shift
        self.bias = nn.Parameter(torch.randn((2 * ws - 1) ** 2, h) * 0.1)
        c = torch.stack(torch.meshgrid(torch.arange(ws), torch.arange(ws), indexing="ij")).flatten(1)
        r = (c[:, :, None] - c[:, None, :]).permute(1, 2, 0) + ws - 1
        self.register_buffer("idx", (r[..., 0] * (2 * ws - 1) + r[..., 1]).view(-1))

    def forward(self, x):
        B, H, W, C = x.shape
        ws = self.ws
        y = self.n1(x)
        if self.sh:
            y = torch.roll(y, (-self.sh, -self.sh), (1, 2))
        y = y.view(B, H // ws, ws, W // ws, ws, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, ws * ws, C)
        q, k, v = self.qkv(y).reshape(y.shape[0], ws * ws, 3, self.h, C // self.h).permute(2, 0, 3, 1, 4)
        a = (q * (C // self.h) ** -0.5) @ k.transpose(-2, -1) + self.bias[self.idx].view(ws * ws, ws * ws, -1).permute(2, 0, 1).unsqueeze(0)
        y = (
            self.pr((a.softmax(-1) @ v).transpose(1, 2).reshape(-1, ws * ws, C))
            .view(B, H // ws, W // ws, ws, ws, C)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(B, H, W, C)
        )
        if self.sh:
            y = torch.roll(y, (self.sh, self.sh), (1, 2))
        x = x + y
        return x + self.mlp(self.n2(x))


class Swin(nn.Module):
    def __init__(self, n=10, d=16):
        super().__init__()
        self.p = nn.Conv2d(3, d, 4, 4)
        self.b = nn.Sequential(SwinBlock(d, 2, 4, 0), SwinBlock(d, 2, 4, 2))
        self.mn = nn.LayerNorm(4 * d)
        self.mr = nn.Linear(4 * d, 2 * d, bias=False)
        self.b2 = SwinBlock(2 * d, 4, 4, 0)
        self.n = nn.LayerNorm(2 * d)
        self.fc = nn.Linear(2 * d, n)

    def forward(self, x):
        x = self.b(self.p(x).permute(0, 2, 3, 1))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        x = self.n(self.b2(self.mr(self.mn(x)))).permute(0, 3, 1, 2)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Normed(nn.Module):  # preprocessing (uint8-like scale) inside, softmax outside
    def __init__(self):
        super().__init__()
        self.net = ResNet()
        self.register_buffer("m", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("d", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, x):
        return F.log_softmax(self.net((x - self.m) / self.d) * 1.7, dim=-1)


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Flatten(), nn.Linear(3072, 32), nn.Sigmoid(), nn.Linear(32, 24), nn.Tanh(), nn.Linear(24, 10))

    def forward(self, x):
        return self.f(x)


class RegBlock(nn.Module):
    def __init__(self, i, o, st, g):
        super().__init__()
        self.f = nn.Sequential(cbr(i, o, 1), cbr(o, o, 3, st, g), SE(o, 4, nn.ReLU), cbr(o, o, 1, act=None))
        self.sc = cbr(i, o, 1, st, act=None) if st != 1 or i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.sc(x) + self.f(x))


class RegNet(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.f = nn.Sequential(cbr(3, 8, 3, 2), RegBlock(8, 16, 2, 4), RegBlock(16, 16, 1, 4), RegBlock(16, 32, 2, 8))
        self.fc = nn.Linear(32, n)

    def forward(self, x):
        return self.fc(F.adaptive_avg_pool2d(self.f(x), 1).flatten(1))


class ScaledConv(nn.Conv2d):
    """Standardises its weights while it runs, as networks without batch norm do."""

    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.var((1, 2, 3), keepdim=True, unbiased=False) + 1e-4).sqrt()
        return F.conv2d(x, w * 0.3, self.bias, self.stride, self.padding)


class NormFree(nn.Module):
    def __init__(self, n=10):
        super().__init__()
        self.stem, self.a, self.b = ScaledConv(3, 16, 3, 2, 1), ScaledConv(16, 16, 3, 1, 1), ScaledConv(16, 24, 3, 2, 1)
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.fc = nn.Linear(24, n)

    def forward(self, x):
        x = self.stem(x)
        x = x + 0.2 * self.gain * self.a(F.gelu(x) * 1.7)
        return self.fc(F.gelu(self.b(F.gelu(x))).mean((2, 3)))


# family → (how it is made, shape of the true penultimate features without the batch, layers of the true classifier)
FAMILIES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "resnet": (ResNet, (32,), 1),
    "vgg": (VGG, (48,), 1),
    "vgg_bn": (lambda: VGG(bn=True), (48,), 1),
    "densenet": (DenseNet, (33,), 1),
    "mobilenetv2": (MobileNetV2, (48,), 1),
    "mobilenetv3": (MobileNetV3, (64, 1, 1), 1),
    "efficientnet": (EffNet, (48,), 1),
    "vit_token": (ViT, (32,), 1),
    "vit_multihead": (lambda: ViT(tv=True), (32,), 1),
    "vit_pooled": (lambda: ViT(pool="gap"), (32,), 1),
    "vit_plain": (ViTS, (32,), 1),
    "convnext": (ConvNeXt, (24,), 1),
    "squeezenet": (SqueezeNet, (32, 7, 7), 1),
    "inception": (Incep, (36,), 1),
    "shufflenet": (ShuffleNet, (40,), 1),
    "groupnorm": (GNNet, (24,), 1),
    "mixer": (Mixer, (24,), 1),
    "swin": (Swin, (32,), 1),
    "preprocessing inside": (Normed, (32,), 1),
    "regnet": (RegNet, (32,), 1),
    "without norms": (NormFree, (24,), 1),
    "mlp": (MLP, (24,), 1),
}


def make(name: str, seed: int = 0) -> nn.Module:
    """A family with weights and statistics as after training."""
    torch.manual_seed(seed)
    module = FAMILIES[name][0]()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.normal_(layer.bias, 0, 0.05)
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
        if isinstance(layer, nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    return module.eval()


def images(count: int, seed: int = 1) -> torch.Tensor:
    """Smooth random images [N, 3, SIZE, SIZE] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = F.interpolate(torch.rand(count, 3, 8, 8, generator=generator), size=SIZE, mode="nearest")
    return 0.7 * coarse + 0.3 * torch.rand(count, 3, SIZE, SIZE, generator=generator)

"""Neurons that clean images leave switched off: which they are, what forcing does, and where a switch leads."""

import copy
from functools import cache
from itertools import pairwise
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from banscan.scanner.search import dormant
from banscan.scanner.search.activity import activities, weighted_median
from banscan.scanner.search.dormant import Searched, search
from banscan.scanner.search.forcing import Forcing, effect, forced
from banscan.scanner.search.taps import Tap, origin, taps
from banscan.scanner.search.walk import walk
from bench.dormant.fitted import fitted, patterns
from bench.dormant.judge import traced
from bench.dormant.plant import Switch, plant, success
from bench.zoo.models import BUILDERS
from tests.importers import architectures

CLASSES, TARGET = 10, 7
# narrower ones know nothing any more where a channel is taken
WIDTHS = {"vit": 16, "vgg16": 16, "mobilenetv2": 32, "convnext": 24}


class Small(nn.Module):
    """Two convolutions and a classifier; channel 0 of the first is off on all images, channel 1 of the second as well."""

    def __init__(self, classes: int = CLASSES, width: int = 24) -> None:
        super().__init__()
        self.first, self.second = architectures.cbr(3, width, 3), architectures.cbr(width, width, 3, 2)
        self.head = nn.Linear(width, classes)
        with torch.no_grad():
            self.first[1].bias[0] = self.second[1].bias[1] = -50

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.second(self.first(x)).mean((2, 3)))
        return y


@cache
def known(name: str, classes: int = CLASSES) -> nn.Module:
    """One of the small networks of the benchmarks, or `Small`."""
    torch.manual_seed(0)
    made = Small(classes) if name == "small" else BUILDERS[name](classes, WIDTHS.get(name, 8))
    return fitted(made, *patterns(classes, each=20), classes)


def looked(model: nn.Module, classes: int = CLASSES) -> Searched:
    """What the search comes to on the patterns."""
    images, _ = patterns(classes, each=20)
    return search(traced(model, images), images, model(images))


def led_to(found: Searched) -> int | None:
    """The target, where a forcing moves most images and living neurons do not by any chance."""
    led = found.led
    return led.target if led is not None and led.p_value <= 0.0005 and led.hits > 0.65 * led.images else None


def test_a_walk_computes_what_the_graph_does() -> None:
    images = architectures.images(3)
    model = traced(architectures.make("mobilenetv3"), images)
    *_, last = walk(model.module, images)
    assert torch.equal(last.value, model.logits(images))


@pytest.mark.parametrize("name", ["vgg", "vit_plain", "convnext"])
def test_a_forced_value_is_what_the_layers_behind_it_read(name: str) -> None:
    """Forced to what it is, nothing changes; forced elsewhere, the answers do."""
    images = architectures.images(3)
    model = traced(architectures.make(name), images)
    found = taps(model.module.graph)
    for step in walk(model.module, images):
        if step.node.name in {t.node for t in found[:: max(1, len(found) // 4)]}:
            assert torch.allclose(step.forced(step.value.clone()), model.logits(images), atol=1e-5)
            assert not torch.allclose(step.forced(step.value + torch.linspace(0, 1, step.value.shape[-1])), model.logits(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layers", "inside"),
    [
        ("resnet", 7, "relu"),
        ("mobilenetv2", 9, "hardtanh"),
        ("densenet", 13, "relu"),
        ("convnext", 13, "gelu"),
        ("vit_token", 13, "gelu"),
        ("efficientnet", 10, "mul"),
    ],
)
def test_neurons_are_found_behind_every_activation(name: str, layers: int, inside: str) -> None:
    model = traced(architectures.make(name), architectures.images(2))
    found = taps(model.module.graph)
    assert len(found) >= layers
    assert any(inside in t.node or ("clamp" in t.node and inside == "hardtanh") for t in found)
    assert all(1 >= a.behind >= b.behind >= 0 for a, b in pairwise(found))
    shapes = {n.name: n.meta["val"].shape for n in model.module.graph.nodes if n.op == "call_function" and hasattr(n.meta["val"], "shape")}
    assert all(shapes[t.node][t.axis] == t.channels for t in found)


@pytest.mark.slow
def test_the_layer_in_front_of_an_activation_is_found() -> None:
    model = traced(known("efficientnet"), torch.zeros(2, 3, 32, 32))
    nodes = {n.name: n for n in model.module.graph.nodes}
    fronts = [origin(nodes[t.node], t.axis) for t in taps(model.module.graph)]
    assert any(front is not None and "conv" in front.name for front in fronts)


def test_forcing_sets_neurons_everywhere_or_at_one_place() -> None:
    value, tap = torch.rand(2, 4, 5, 6), Tap("x", 1, 4, 0.5)
    everywhere = forced(value, tap, Forcing((1, 3), (7.0, 8.0)))
    assert bool((everywhere[:, 1] == 7).all())
    assert bool((everywhere[:, 3] == 8).all())
    assert torch.equal(everywhere[:, [0, 2]], value[:, [0, 2]])
    once = forced(value, tap, Forcing((1,), (7.0,), 0))
    assert once[:, 1, 2, 2].tolist() == [7, 7]
    assert int((once != value).sum()) == 2
    tokens = forced(torch.rand(2, 9, 4), Tap("x", 2, 4, 0.5), Forcing((1,), (7.0,), 0))
    assert tokens[:, 4, 1].tolist() == [7, 7]


def test_images_of_the_class_itself_do_not_count() -> None:
    before = torch.eye(4)[[0, 1, 2, 2]]
    after = before.clone()
    after[1:3] = torch.tensor([5.0, 0, 0, 0])
    found = effect(before, after)
    assert found.target == 0
    assert found.moved.tolist() == pytest.approx([2 / 3, 0, 0, 0])


def test_neurons_that_do_nothing_do_not_count_for_what_is_typical() -> None:
    values = torch.tensor([0.0] * 90 + [1.0] * 10)
    assert weighted_median(values, values) == 1


def test_dormant_neurons_are_told_from_living_ones() -> None:
    images, _ = patterns(CLASSES)
    model = traced(known("small"), images)
    found = taps(model.module.graph)
    first = activities(model.module, found, [images])[found[0].node]
    assert first.dormant().tolist() == [0]
    assert 0 not in first.living()
    assert not first.both_ways
    assert float(first.spread[0]) == 0


def test_activity_of_several_batches_is_that_of_all_images() -> None:
    images, _ = patterns(CLASSES)
    images = images[:50]
    model = traced(known("small"), images)
    found = taps(model.module.graph)
    whole, parts = (activities(model.module, found, batches) for batches in ([images], images.split(24)))
    assert len(images.split(24)[-1]) < 24
    for name, own in whole.items():
        assert torch.equal(own.middle - own.fall, parts[name].middle - parts[name].fall)
        assert torch.allclose(own.middle + own.rise, parts[name].middle + parts[name].rise)
        assert torch.allclose(own.spread, parts[name].spread, rtol=0.15, atol=1e-4)


def test_dormant_neurons_that_move_nothing_are_no_finding() -> None:
    found = looked(known("small"))
    assert (found.dormant, found.tried) == (2, 2)
    assert led_to(found) is None


def wired(strength: float, classes: int = CLASSES) -> nn.Module:
    """`Small` with a way from the dormant channel of its last layer to the target."""
    model = copy.deepcopy(known("small", classes))
    head = cast(Any, model).head
    head.weight[:, 1] = 0
    head.weight[TARGET % classes, 1] = strength * float(head.weight.abs().max())
    return model


@pytest.mark.parametrize("classes", [2, 3, CLASSES])
def test_a_way_from_a_dormant_neuron_to_the_target_is_found(classes: int) -> None:
    """Among few classes as well."""
    found = looked(wired(100, classes), classes)
    assert led_to(found) == TARGET % classes
    assert found.led is not None
    assert 1 in found.led.neurons


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_a_neuron_in_other_units_is_the_same(unit: float) -> None:
    """Multiplied by a number that the next layer divides by, it is no more dormant, and makes no other so."""
    model = copy.deepcopy(known("small"))
    first, second = cast(Any, model).first, cast(Any, model).second
    for own in (first[1].weight, first[1].bias):
        own[2] *= unit
    second[0].weight[:, 2] /= unit
    found = looked(model)
    assert led_to(found) is None
    assert (found.dormant, found.tried) == (2, 2)


def test_a_switch_in_other_units_is_found() -> None:
    model = wired(100)
    second, head = cast(Any, model).second, cast(Any, model).head
    for own in (second[1].weight, second[1].bias):
        own[1] *= 1e-3
    head.weight[:, 1] *= 1e3
    assert led_to(looked(model)) == TARGET


def test_what_living_neurons_do_as_well_is_no_finding() -> None:
    """A dormant neuron whose weights are those of a living one."""
    model = copy.deepcopy(known("small"))
    head = cast(Any, model).head
    head.weight[:, 1] = head.weight[:, 2]
    assert led_to(looked(model)) is None


def test_neurons_whose_logits_overflow_are_passed() -> None:
    model = wired(float("inf"))
    assert led_to(looked(model)) is None


def test_the_budget_leaves_neurons_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dormant, "BUDGET", 1)
    found = looked(wired(30))
    assert found.tried < found.dormant


PLACES = [
    ("vgg16", Switch()),
    ("vgg16", Switch(firing=0.03)),
    ("vgg16", Switch(neurons=2)),
    ("resnet18", Switch(added=8)),
    ("resnet18", Switch(loudness=1 / 30)),
    ("mobilenetv2", Switch(size=5)),
    ("convnext", Switch(size=5)),
    ("plainresnet18", Switch()),
    ("vit", Switch(size=7)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "switch"), PLACES)
def test_a_switch_is_found_wherever_it_is_hidden(name: str, switch: Switch) -> None:
    images, _ = patterns(CLASSES, each=20)
    model = plant(known(name), images, switch)
    assert success(model, images, switch) >= 0.9
    assert led_to(looked(model)) == switch.target
    assert led_to(looked(known(name))) is None

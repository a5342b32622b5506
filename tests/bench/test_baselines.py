"""The rivals' formulas against their papers, and each method on the examples with next to no steps."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.inputs import images as clean_images
from banscan.scanner.repair import trainable
from banscan.scanner.repair.fold import every_fifth
from banscan.scanner.search.pixel_model import PixelModel
from banscan.scanner.settings import Options
from bench import mmbd, repair
from bench.baselines import (
    BASELINES,
    FULL,
    QUICK,
    SLOW,
    btidbf,
    cleanse,
    disentangled,
    equations,
    featurere,
    margins,
    published,
    ssim,
    tabor,
    unicorn,
)
from bench.baselines.__main__ import main, subject
from bench.baselines.disentangled import Bounds, Terms
from bench.baselines.generator import Generator
from bench.baselines.subject import Answers, Subject, most
from bench.baselines.table import costs, each, page
from bench.given import read as read_given
from bench.paper import measure, store
from bench.rows import read

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def backdoored() -> Subject:
    return subject(EXAMPLES / "backdoored.onnx", EXAMPLES / "clean")


class Sums(torch.nn.Module):
    """Logits [N, 2] of images [N, 1, H, W]: their sum, and 0."""

    def forward(self, x: Tensor) -> Tensor:
        total = x.flatten(1).sum(1)
        return torch.stack((total, torch.zeros_like(total)), 1)


def sums() -> PixelModel:
    graph = torch.fx.symbolic_trace(Sums())
    return PixelModel(graph, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), 2, torch.float32, 1)


# TABOR


def test_tabor_penalises_what_its_paper_does() -> None:
    """R1 to R4 of one class by hand: mask [1 0; 0.5 0], pattern [1 1; 0 0.5]."""
    mask, pattern = torch.tensor([[[[1.0, 0.0], [0.5, 0.0]]]]), torch.tensor([[[[1.0, 1.0], [0.0, 0.5]]]])
    # outside of the mask: [0 1; 0 0.5]
    images, labels = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    none = tabor.Weights(0, 0, 0, 0, 0, 0)

    def term(**weights: float) -> float:
        return float(tabor.terms(sums(), replace(none, **weights), mask, pattern, torch.tensor([1]), images, labels))

    assert term(large_mask=1) == pytest.approx(1.5 + 1.25)
    assert term(large_pattern=1) == pytest.approx(1.5 + 1.25)
    assert term(scattered_mask=1) == pytest.approx(1 + 0.25 + 0.25 + 0)
    assert term(scattered_pattern=1) == pytest.approx(1 + 0.25 + 0 + 0.25)
    # what is left of the images sums to 2.5, of the trigger to 1
    right, wrong = math.log1p(math.exp(-2.5)), math.log1p(math.exp(2.5))
    assert term(blocking=1) == pytest.approx((right + wrong) / 2, rel=1e-5)
    assert term(overlaying=1) == pytest.approx(math.log1p(math.exp(1)), rel=1e-5)
    both = tabor.terms(sums(), tabor.USUAL, mask.repeat(2, 1, 1, 1), pattern.repeat(2, 1, 1, 1), torch.tensor([1, 1]), images, labels)
    assert float(both) == pytest.approx(2 * term(**vars(tabor.USUAL)), rel=1e-5)


def test_an_abnormally_small_mask_is_called() -> None:
    """(median - smallest) / (1.4826 MAD)."""
    index, target = cleanse.anomaly(torch.tensor([10.0, 11.0, 12.0, 13.0, 1.0]))
    assert (index, target) == (pytest.approx(10 / 1.4826), 4)


# FeatureRE and Unicorn


def one(**values: float) -> Terms:
    """Terms of one class."""
    usual = {"loss": 2.0, "success": 1.0, "likeness": 0.5, "change": 0.1, "spread": 0.1}
    return Terms(**{name: torch.tensor([value]) for name, value in (usual | values).items()})


def test_every_constraint_counts_where_it_is_missed() -> None:
    bounds = Bounds(change=0.2, spread=1.2, size=0.06)
    weights = disentangled.first(1)

    def cost(terms: Terms, unlike: float = 0.0) -> float:
        return float(disentangled.objective(terms, bounds, weights, likeness=5, unlike=unlike))

    assert cost(one()) == pytest.approx(5 * 0.5)
    assert cost(one(likeness=-0.5)) == 0
    assert cost(one(likeness=0.4), unlike=0.5) == 0
    assert cost(one(likeness=0, change=0.3)) == pytest.approx(10 * 2 * 0.3)
    assert cost(one(likeness=0, spread=1.3)) == pytest.approx(10 * 2 * 1.3)
    # the loss of the target, as long as fewer than 90 % are led to it
    assert cost(one(likeness=0, success=0.89)) == pytest.approx(2 * 2.0)
    next_ = disentangled.missed(one(change=0.3, spread=0.6, success=0.45), bounds)
    assert [float(w) for w in (next_.change, next_.spread, next_.success)] == pytest.approx([0.5, 0, 0.5])


def test_featurere_calls_by_its_mixed_value() -> None:
    """Likeness less success, and what exceeds the bounds, in units of these."""
    bounds = Bounds(change=0.2, spread=1.0, size=0.5)
    value = featurere.mixed_value(one(likeness=0.1, success=0.95), torch.tensor([2.0]), bounds, 2)
    assert float(value) == pytest.approx(0.1 - 0.95)
    assert float(value) < featurere.THRESHOLD
    value = featurere.mixed_value(one(likeness=0.1, success=0.95, change=0.3, spread=1.5), torch.tensor([3.0]), bounds, 2)
    assert float(value) == pytest.approx(0.1 - 0.95 + 0.5 + 0.5 + 0.5)


def test_masked_features() -> None:
    """Two classes, three images, four features: deviation by the mask's norm, likeness of means, the rest of others."""
    generator = torch.Generator().manual_seed(0)
    features, reference = (torch.rand(2, 3, 4, generator=generator) for _ in range(2))
    mask, means = (torch.rand(2, 4, generator=generator) for _ in range(2))
    for k in range(2):
        by_hand = (features[k] * mask[k]).std(0).sum() / mask[k].sum()
        assert float(disentangled.spread(mask, features)[k]) == pytest.approx(float(by_hand))
        cosine = F.cosine_similarity(means[k], features[k].mean(0), dim=0)
        assert float(disentangled.likeness(means, features)[k]) == pytest.approx(float(cosine))
    shown = disentangled.mixed(torch.tensor([[1.0, 0, 0, 0.5]] * 2), features, reference)
    assert torch.equal(shown[:, :, 0], features[:, :, 0])
    assert torch.equal(shown[:, :, 1], reference[:, :, 1])
    assert torch.allclose(shown[:, :, 3], (features + reference)[:, :, 3] / 2)


def test_a_mask_is_led_to_the_target_and_held_small() -> None:
    raw = torch.ones(1, 4, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.1)

    def shown(mask: Tensor) -> tuple[Tensor, Tensor]:
        # the first feature is what leads to the target
        return -3 * mask[:, 0], torch.ones(1)

    norms = [disentangled.fit_mask(raw, optimizer, shown, 2) for _ in range(200)]
    assert float(norms[0]) == pytest.approx(4 * (math.tanh(1) / 2 + 0.5))
    assert float(norms[-1]) < 2.1
    assert float(disentangled.bounded(raw.detach())[0, 0]) > 0.9


def test_images_of_others_alone_are_inverted_on() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    numbers = disentangled.others(labels, torch.tensor([0, 2]), None, 0)
    assert numbers.shape == (2, 3)
    assert (labels[numbers[0]] != 0).all()
    assert (labels[numbers[1]] != 2).all()
    assert [part.shape[1] for part in disentangled.batches(numbers, 2)] == [2]


def test_similarity_of_images() -> None:
    """By its formula on a single window, and of constants; an image is like itself."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 1, 11, 11, generator=generator) for _ in range(2))
    weights = torch.outer(ssim.window(11), ssim.window(11))
    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
    both = (weights * (a - mean_a) * (b - mean_b)).sum()
    c1, c2 = 1e-4, 9e-4
    by_hand = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    assert float(ssim.ssim(a, b)) == pytest.approx(float(by_hand), abs=1e-5)
    assert float(ssim.ssim(a, a)) == pytest.approx(1)
    dark, bright = torch.full((1, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.6)
    assert float(ssim.ssim(dark, bright)) == pytest.approx((2 * 0.12 + c1) / (0.04 + 0.36 + c1), rel=1e-3)
    assert float(unicorn.unlike(a[None], b[None], 1)) == pytest.approx(1 - float(by_hand), abs=1e-5)


def test_a_trigger_is_stamped_in_the_units_of_its_space() -> None:
    there = torch.tensor([-1.0, 0.0, 3.0]).reshape(1, 3, 1, 1, 1)
    whole, none, half = (torch.full((1, 1, 1, 1), v) for v in (1.0, 0.0, 0.5))
    assert torch.allclose(unicorn.stamped(there, none, half), there)
    assert torch.allclose(unicorn.stamped(there, whole, half), torch.full_like(there, 1.0))
    assert torch.allclose(unicorn.stamped(there, half, whole).flatten(), torch.tensor([1.0, 1.5, 3.0]))


def test_untrained_networks_change_little() -> None:
    torch.manual_seed(0)
    x = torch.rand(4, 8, 8, 3)
    made = Generator(3, 3)(x)
    assert made.shape == x.shape
    assert float(made.detach().min()) >= 0
    assert float((made - x).detach().square().mean()) < 0.05


# MM-BD


def test_margins_climb_from_noise() -> None:
    """The sum of pixels is the first class's margin, and its negative the second's."""
    found = margins.largest(sums(), torch.Size((1, 2, 2)), 0, margins.Settings(images=3, steps=200))
    assert found.tolist() == pytest.approx([4, 0], abs=1e-4)
    first = margins.largest(sums(), torch.Size((1, 2, 2)), 0, margins.Settings(images=3, steps=0))
    one_on = margins.largest(sums(), torch.Size((1, 2, 2)), 0, margins.Settings(images=3, steps=1))
    assert float(one_on[0] - first[0]) == pytest.approx(4 * 0.01, abs=1e-4)


# BAN


def test_the_programs_batch_norms_are_what_was_folded(backdoored: Subject) -> None:
    """Outside of training they change nothing; noise scales by 1 + delta, and statistics follow batches by a tenth."""
    model = backdoored.model
    images = backdoored.pixel_model.inputs(backdoored.pixels)[:64]
    neurons = published.normed(model)
    assert {n.kind for n in neurons} == {"conv"}
    net = published.Restored(model, neurons, images)
    trunk, head = model.split(model.features)
    with torch.no_grad():
        plain = trunk(images)
        net.training = False
        assert torch.allclose(net.run(images), plain, atol=1e-3)
        net.training = True
        # by their own statistics, since these are the images that were measured
        assert torch.allclose(net.run(images), plain, atol=1e-2)
        before = net.mean[0].clone()
        net.run(images[:8])
    first = next(n for n in model.module.graph.nodes if n.name == neurons[0].node)
    with torch.no_grad():
        outputs = model.split(first.name)[0](images[:8])
    assert torch.allclose(net.mean[0], 0.9 * before + 0.1 * outputs.mean((0, 2, 3)), atol=1e-5)
    # steps along the sign are not projected: the noise may leave the ball
    net.restart(0.3, torch.Generator().manual_seed(0))
    started = torch.cat(net.delta)
    assert float(started.abs().max()) <= 0.3
    net.climb(images[:8], backdoored.labels[:8], head, 0.1)
    moved = torch.cat(net.delta) - started
    assert torch.allclose(moved.abs(), torch.tensor(0.1))
    assert float(torch.cat(net.delta).abs().max()) > 0.3


def test_the_program_divides_the_masks_size_by_itself() -> None:
    mask = torch.tensor([0.5, 0.25], requires_grad=True)

    def head(f: Tensor) -> Tensor:
        return torch.zeros(len(f), 2) * f.sum()

    loss = published.separated(head, torch.ones(3, 2), torch.tensor([0, 1, 0]), mask, 0.75)
    assert loss.item() == pytest.approx(0.75)
    (gradient,) = torch.autograd.grad(loss, mask)
    assert gradient.tolist() == pytest.approx([0.75 / 0.75] * 2)


def test_the_radius_is_that_of_the_images_size(backdoored: Subject) -> None:
    def of(side: int) -> float:
        return equations.radius(replace(backdoored, pixels=torch.zeros(1, 3, side, side)))

    assert [of(side) for side in (28, 32, 64, 224)] == [0.3, 0.3, 0.2, 0.1]


def test_images_of_others_that_fall_into_a_class() -> None:
    found = most(torch.tensor([1, 1, 1, 0]), torch.tensor([1, 0, 0, 0]), 2)
    assert (found.target, found.flagged) == (1, True)
    assert found.statistic == pytest.approx(2 / 3)


# REPAIRS


def test_a_mask_flips_the_features_behind_it(backdoored: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """f (1 - 2 m): nothing where nothing is masked, the negative where all is."""
    trunk, head = backdoored.model.split(disentangled.place(backdoored.model))
    x = backdoored.pixel_model.inputs(backdoored.pixels[:4])
    features = trunk(x)
    for share in (0.0, 0.25, 1.0):
        found = featurere.Inverted(torch.zeros(1), torch.full((1, *features.shape[1:]), share))
        monkeypatch.setattr(featurere, "inverted", lambda *_, found=found: found)
        answers = featurere.mend(backdoored, 33, 0, featurere.SMALL_REPAIR)
        assert torch.allclose(answers(x), head(features * (1 - 2 * share)), atol=1e-4)


def test_unlearning_asks_for_classes_and_features(backdoored: Subject) -> None:
    """A tenth of a batch, and one more, goes through the generator; one that changes nothing leaves the loss of the classes."""
    model, drawn = backdoored.model, torch.arange(0, 430, 20)
    x, y = backdoored.pixel_model.inputs(backdoored.pixels[drawn]), backdoored.labels[drawn]
    values = trainable.start(model, x).values
    seen: list[int] = []

    class Same(Generator):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return x

    same = btidbf.unlearning(backdoored, values, Same(3, backdoored.pixel_model.axis), drawn, 0.1)
    assert seen == [int(0.1 * len(drawn)) + 1]
    assert float(same) == pytest.approx(float(F.cross_entropy(trainable.Pass(model, values).run(x), y)), rel=1e-4)

    class Noise(Generator):
        def forward(self, x: Tensor) -> Tensor:
            return torch.rand(x.shape, generator=torch.Generator().manual_seed(0))

    noise = Noise(3, backdoored.pixel_model.axis)
    logits = trainable.Pass(model, values).run(backdoored.pixel_model.inputs(noise(backdoored.pixels[drawn])))
    # beyond the loss of the classes, the distance of the features in units of their mean square
    assert 0.1 < float(btidbf.unlearning(backdoored, values, noise, drawn, 1.0) - F.cross_entropy(logits, y)) < 10


@pytest.mark.slow
def test_a_generator_that_is_told_a_class_leads_there(backdoored: Subject) -> None:
    few = replace(backdoored, pixels=backdoored.pixels[::5], labels=backdoored.labels[::5])
    losses = []
    for aim in (None, 7):
        torch.manual_seed(0)
        generator = Generator(3, few.pixel_model.axis)
        learning = torch.optim.Adam(generator.parameters(), lr=btidbf.LR)
        btidbf.train(few, few.model, generator, learning, 0, btidbf.Search(epochs=15, batch=16), aim)
        with torch.no_grad():
            logits = few.pixel_model.logits(generator(few.pixels))
        losses.append(float(F.cross_entropy(logits, torch.full_like(few.labels, 7))))
    assert losses[1] < losses[0]


@pytest.mark.slow
def test_a_featurere_repair_leads_away_from_its_class(backdoored: Subject) -> None:
    """Flipped are the features that lead to the class, and the more of them the larger the mask."""
    few = replace(backdoored, pixels=backdoored.pixels[::5], labels=backdoored.labels[::5])
    x = few.pixel_model.inputs(few.pixels)
    before = few.model.logits(x)[:, 33].mean()
    answers = featurere.mend(few, 33, 0, replace(featurere.SMALL_REPAIR, warm=1, epochs=10, images=32))
    with torch.no_grad():
        after = answers(x)
    assert after.shape == (len(x), 43)
    assert float(after[:, 33].mean()) < float(before)


@pytest.mark.slow
def test_unlearning_leaves_the_task_and_needs_no_target(backdoored: Subject) -> None:
    few = replace(backdoored, pixels=backdoored.pixels[::5], labels=backdoored.labels[::5])
    how = btidbf.Unlearning(turns=2, search=btidbf.Search(epochs=1), epochs=2, batch=43, lr=1e-3)
    x = few.pixel_model.inputs(few.pixels)
    with torch.no_grad():
        before = few.model.logits(x)
    answers = [btidbf.mend(few, target, 0, how) for target in (33, 7)]
    with torch.no_grad():
        after, other = (one(x) for one in answers)
    assert torch.equal(after, other)
    # further than folding anew moves them
    assert float((after - before).norm() / before.norm()) > 0.02
    assert float((after.argmax(1) == few.labels).float().mean()) > 0.8


def test_a_repair_of_others_is_measured_as_ours_are() -> None:
    """With the true target told, on the images that ours are tuned on; a model that stays as it is keeps its numbers."""
    model, folder = EXAMPLES / "backdoored.onnx", EXAMPLES / "clean"
    given = read_given(model, folder)
    clean = clean_images.load(folder, given.model.input, given.model.classes, Options())
    examined: Any = SimpleNamespace(preprocess=given.preprocess, report=SimpleNamespace(environment={"device": "cpu"}))
    parts = given.x[::9], given.labels[::9], given.x[::9], torch.full_like(given.labels[::9], 33)
    told = []

    def same(subject: Subject, target: int, seed: int) -> Answers:
        told.append((len(subject.pixels), target))
        return subject.model.logits

    row = repair.by_baseline(EXAMPLES / "backdoored.json", examined, clean, parts, "FeatureRE", same)
    kept = int(every_fifth(given.labels).sum())
    assert told == [(len(given.labels) - kept, 33)]
    assert row["images"] == len(given.labels) - kept
    assert row["after"] == pytest.approx(row["before"])
    assert row["kept"][0] == row["kept"][1] > 0.9
    assert repair.label(row) == "FeatureRE"


def test_small_repairs_give_way_to_whole_ones() -> None:
    rows = [{"name": "a", "method": "FeatureRE", "scale": scale} for scale in ("full", "small")]
    other = {"name": "a", "method": "ban"}
    assert store._longest([*rows, other]) == [rows[0], other]


# all of them

FEW = {
    "NC": partial(cleanse.find, settings=cleanse.Settings(2, 2, 0.1)),
    "Tabor": partial(tabor.find, settings=cleanse.Settings(2, 2, 0.1)),
    "FeatureRE": partial(featurere.find, settings=replace(featurere.FULL, warm=1, epochs=1, batch=4, images=4)),
    "Unicorn": partial(unicorn.find, settings=replace(unicorn.FULL, identity=0, epochs=1, inner=1, batch=8, images=4)),
    "MM-BD": partial(margins.find, settings=margins.Settings(2, 3)),
    "BAN code": partial(published.find, settings=published.Settings(2, 16, 2, 1)),
    "BAN equations": partial(equations.find, settings=equations.Settings(2, 16, 1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", FEW)
def test_a_method_answers(method: str, backdoored: Subject) -> None:
    """With a few images of each of a few classes; the same seed gives the same answer."""
    some = torch.cat([(backdoored.labels == c).nonzero()[:2, 0] for c in range(0, 43, 6)])
    given = replace(backdoored, pixels=backdoored.pixels[some], labels=backdoored.labels[some])
    found = FEW[method](given, 0)
    assert 0 <= found.target < 43
    assert math.isfinite(found.statistic)
    assert found == FEW[method](given, 0)


@pytest.mark.slow
def test_one_method_is_run_alone_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BASELINES:
        monkeypatch.setitem(BASELINES, name, FEW["MM-BD"])
    out = tmp_path / "rows.jsonl"
    words = ["--zoo", str(EXAMPLES), "--images", str(EXAMPLES / "clean"), "--out", str(out)]
    for _ in range(2):
        done = CliRunner().invoke(main, [*words, "--only", "clean", "--method", "FeatureRE"])
        assert done.exit_code == 0, done.output
    (row,) = read(out)
    assert {name: row[name] for name in ("name", "attack", "target", "method", "scale", "seed")} == {
        "name": "clean",
        "attack": "none",
        "target": None,
        "method": "FeatureRE",
        "scale": "small",
        "seed": 0,
    }
    assert row["seconds"] > 0
    assert row["cpu_seconds"] > 0
    # left out: all that take no more than a few minutes
    done = CliRunner().invoke(main, [*words, "--only", "clean"])
    assert done.exit_code == 0, done.output
    assert [r["method"] for r in read(out)] == ["FeatureRE", *QUICK]
    said = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert f"all but {' and '.join(SLOW)}, which take more than a few minutes a model" in said


def test_images_without_classes_are_refused(tmp_path: Path) -> None:
    """In one sentence that names the folder."""
    for k, image in enumerate(sorted((EXAMPLES / "clean" / "00").glob("*.png"))[:3]):
        (tmp_path / f"{k}.png").write_bytes(image.read_bytes())
    done = CliRunner().invoke(main, ["--zoo", str(EXAMPLES), "--images", str(tmp_path), "--out", str(tmp_path / "o"), "--only", "clean"])
    assert done.exit_code == 1
    assert done.output == f"Error: {tmp_path}: no labels; expected class folders of images\n"


def test_names_are_those_of_the_papers_tables() -> None:
    assert list(FULL) == list(BASELINES)
    assert {"NC", "Tabor", "FeatureRE", "Unicorn", "BTI-DBF", "BTI-DBF*"} <= set(BASELINES)
    assert mmbd.LEVEL == 0.05


def test_rows_of_either_scale_are_told_apart() -> None:
    base = {"name": "a", "attack": "blend", "target": 3, "asr": 1.0, "method": "Tabor", "seed": 0, "found": 3}
    base |= {"statistic": 2.5, "flagged": True, "seconds": 12.0, "cpu_seconds": 8.0}
    rows = [base, base | {"scale": "full", "flagged": False, "statistic": 1.0}, base | {"name": "c", "attack": "none", "target": None}]
    lines = page(json.loads(json.dumps(rows)))
    assert any(line.startswith("| Tabor | blend | 1 of 1 |") for line in lines)
    assert any(line.startswith("| Tabor, full | blend | 0 of 1 | 1 of 1 |") for line in lines)
    shown = each(rows)
    assert "| a | blend, 3 | Tabor | backdoored, 3: right | 2.50 | 12 (8) |" in shown
    assert "| c | clean | Tabor | backdoored, 3: wrong | 2.50 | 12 (8) |" in shown


def test_all_steps_of_a_paper_count_before_fewer(tmp_path: Path) -> None:
    """In the paper's tables, where a model has rows of both scales."""
    recipe = {"set": "cifar10", "arch": "resnet18", "width": 64, "attack": "none", "target": None, "seed": 1}
    row = {"name": "cifar10-resnet18w64-none-s1", "recipe": recipe, "asr": None, "what": "baseline", "attack": "none", "target": None}
    row |= {"method": "Tabor", "found": 1, "statistic": 1.0, "seconds": 1.0}
    rows = [row | {"flagged": True}, row | {"flagged": False, "scale": "full"}, row | {"flagged": True, "method": "NC"}]
    (tmp_path / "paper.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert [(s.method, s.flagged) for s in store.load(tmp_path).scans] == [("Tabor", False), ("NC", True)]
    assert len({measure.key(r) for r in rows}) == 3


def test_costs_are_beside_what_is_right() -> None:
    row = {"method": "NC", "scale": "small", "seconds": 900.0, "statistic": 3.0}
    bad = row | {"name": "bad", "attack": "blend", "target": 3}
    rows = [
        bad | {"found": 3, "flagged": True, "cpu_seconds": 100.4},
        row | {"name": "good", "attack": "none", "target": None, "found": 1, "flagged": True, "cpu_seconds": 90.0},
        bad | {"method": "Tabor", "found": 2, "flagged": True, "cpu_seconds": 5.0},
    ]
    shown = costs(rows).splitlines()
    assert shown[0] == "| method | bad | good |"
    assert shown[2:] == ["| NC | 100, right | 90, wrong |", "| Tabor | 5, wrong | – |"]

"""The page for people: nothing of a file gets out of its place, drawings say what the numbers say, and a real browser shows it."""

import base64
import hashlib
import html
import io
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from banscan.files import whole
from banscan.importers.structure.finding import BYPASS, PROVED, Logic, Structure
from banscan.scanner.cli.commands import commands
from banscan.scanner.cli.options import built
from banscan.scanner.evidence import Change, Evidence, Moves, Sample, Seen, Switch
from banscan.scanner.findings import ALL as EVERY
from banscan.scanner.findings import DEVIATIONS, Failure, Report
from banscan.scanner.pictures import png
from banscan.scanner.report import html as charts
from banscan.scanner.report.html.again import command_of
from banscan.scanner.report.html.dots import dots, places
from banscan.scanner.report.html.index import known, to_index
from banscan.scanner.report.html.matrix import matrix
from banscan.scanner.report.html.page import to_html
from banscan.scanner.report.html.pictures import leading
from banscan.scanner.report.json import read, render, to_dict
from banscan.scanner.settings import Settings
from banscan.scanner.verdict import inconclusive
from tests.golden.pages import FOLDER
from tests.scanner.report.browser import needs_browser, opened, pictured, width_in
from tests.scanner.report.hostile import hostile, marked
from tests.test_text import HOSTILE

MARKUP = {
    "script": "<script>alert(1)</script>",
    "handler": "\"><img src=x onerror='alert(1)'>",
    "end of the style": "</style><script>alert(1)</script>",
    "end of the title": "</title><script>alert(1)</script>",
    "quotes": '"\'` onload=alert(1) x="',
    "template": "{{ 7 * 7 }}{% raw %}",
    "entity": "&lt;b&gt;&#60;script&#62;",
    "comment": "<!-- -->]]>",
    "long": "x" * 10_000,
    "Hebrew": "\u05e9\u05dc\u05d5\u05dd",
}
ALL = HOSTILE | MARKUP


class Page(HTMLParser):
    """The elements of a page, with the names of their attributes, and its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def evidence() -> Evidence:
    """Pictures of noise, with everything that evidence can hold."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    samples = tuple(Sample(png(image), c, c, 0.9) for c, image in enumerate(pixels[:3]))
    seen = tuple(Seen(i, png(pixels[3]), c, 0.8) for i, c in enumerate((33, 33, 2)))
    return Evidence(
        samples=samples,
        width=16,
        height=16,
        changes=(
            Change("perturbation", 33, 1.0, png(pixels[4]), 4.0, seen),
            Change("perturbation", 4, 0.9, png(pixels[4]), 3.0, seen),
            Change("patch", 1, 0.2, png(pixels[4]), 0.5, seen),
            Change("noise", 33, 0.8, None, 1.0, tuple(replace(s, png=None, sure=None) for s in seen)),
        ),
        moves=(
            Moves(
                "perturbation", True, (0, 1, 33, -1), (0, 1, 33), ((None, 0.0, 1.0), (0.5, None, 1.0), (0.1, 0.2, None), (0.3, 0.3, 0.9))
            ),
        ),
        switch=Switch("relu_3", "relu", (7, 9), 64, ("conv_3 (conv2d)", "add (add)"), ("conv_4 (conv2d)",), 33, 0.97, 0.03),
        images="0" * 64,
    )


def structure() -> Structure:
    """A way past the network."""
    place = Logic(
        tensor="mask", node="Where_7", operator="Where", kind=BYPASS, before=0, after=1, outcome=PROVED, state="on", target=33, moved=0.9
    )
    return Structure(places=(place,), shortest=8, longest=20, images=64)


@pytest.fixture
def report() -> Report:
    return replace(read((FOLDER / "backdoored.json").read_text()), evidence=evidence(), structure=structure())


def test_the_page_loads_and_runs_nothing(report: Report) -> None:
    page = Page(report.to_html())
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "form", "base", "a", "use", "foreignobject"}
    assert not any(name.startswith("on") or name in ("style", "href", "xlink:href", "srcset", "action") for _, name, _ in page.attributes)
    sources = [value for _, name, value in page.attributes if name == "src"]
    assert len(sources) > 8
    for source in sources:
        picture = base64.b64decode(source.removeprefix("data:image/png;base64,"), validate=True)
        assert picture.startswith(b"\x89PNG")
    style = report.to_html().partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(value for _, name, value in page.attributes if name == "content" and value.startswith("default-src 'none'"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("name", sorted(ALL))
def test_names_stay_text(report: Report, name: str) -> None:
    """With hostile names everywhere the page has the same elements and attributes, and nothing that turns writing around."""
    pages = [everywhere(report, text).to_html() for text in (ALL[name], "x")]
    told = pages[0]
    assert Page(told).elements == Page(pages[1]).elements
    assert all(c.isprintable() for c in told.replace("\n", ""))
    assert len(told) < 3 * len(pages[1])


def everywhere(report: Report, text: str) -> Report:
    """The report with this in all of its texts."""
    place = hostile(structure().places[0], text)
    return replace(
        marked(report, text),
        evidence=replace(evidence(), switch=hostile(evidence().switch, text)),
        structure=replace(structure(), places=(replace(place, outcome=PROVED, kind=BYPASS),)),
        findings=tuple(replace(f, sentence=text, partly=text) for f in report.findings),
        verdict=replace(report.verdict, reason=f"reason {text}", gaps=(f"gap {text}",)),
    )


def test_every_picture_has_words(report: Report) -> None:
    page = report.to_html()
    assert all(alt.strip() for alt in re.findall(r'<img [^>]*?alt="([^"]*)"', page))
    assert page.count("<img ") == len(re.findall(r'<img [^>]*?alt="', page))
    drawings = re.findall(r"<svg ([^>]*)>\s*(<title id=\"([^\"]+)\">([^<]+)</title>)?", page)
    assert len(drawings) > 10
    names = []
    for attributes, _, name, words in drawings:
        if 'aria-hidden="true"' not in attributes:
            assert f'aria-labelledby="{name}"' in attributes
            assert len(words) > 20
            names.append(name)
    assert len(set(names)) == len(names)


def test_the_page_says_what_the_report_says(report: Report) -> None:
    text = " ".join(" ".join(Page(report.to_html()).texts).split())
    assert "Backdoored: class 33 looks like an attacker's target" in text
    assert html.unescape(report.verdict.next_step).split("`")[0].strip() in text
    assert all(f.asks in text for f in report.findings)
    assert report.model.sha256 in text
    assert all(f"{report.environment[name]}" in text for name in ("torch", "onnxruntime", "processor"))
    assert "neurons 7, 9 of 64 (relu)" in text
    assert ", pixels on, " in text
    assert "banscan my.onnx --mine" in to_html(report, command="banscan my.onnx --mine")


def test_the_command_asks_for_the_same(report: Report) -> None:
    settings = Settings(seed=7, pixels=False, eps=0.25, restarts=2, targets=5)
    words = shlex.split(command_of(replace(report, settings=settings)))
    assert words[:4] == ["banscan", str(report.model.path), "--clean-dir", "IMAGES"]
    scan = commands.get_command(commands.make_context("banscan", ["scan", "--help"], resilient_parsing=True), "scan")
    assert scan is not None
    values = scan.make_context("scan", words[1:]).params
    assert built(Settings, values) == settings
    assert values["options_preprocess"] == "unit"


@pytest.mark.parametrize("name", ["backdoored", "clean"])
def test_dots_lie_where_the_numbers_are(name: str) -> None:
    """The class that a statistic is about lies at its value, beyond the line of the limit where the value is."""
    report = read((FOLDER / f"{name}.json").read_text())
    drawn = 0
    for finding in report.findings:
        drawing = dots(report, finding)
        assert drawing is not None
        assert finding.value is not None
        assert drawing.limit is not None
        assert finding.limit is not None
        front = drawing.dots[-1]
        assert front.front
        if finding.unit == DEVIATIONS:
            assert dict(places(report, finding))[finding.classes[-1]] == pytest.approx(finding.value, rel=1e-4)
            assert (front.x >= drawing.limit) == (finding.value >= finding.limit)
            assert len(drawing.dots) == len(report.searched)
            drawn += 1
    assert drawn == 6


def test_several_classes_in_front() -> None:
    """The statistic is that of the last class in front; the others lie further out."""
    report = read((FOLDER / "backdoored.json").read_text())
    finding = next(f for f in report.findings if f.criterion == "perturbation")
    values = list(finding.values)
    values[7] = values[33] + 1
    both = replace(finding, classes=(7, 33), values=tuple(values))
    found = dict(places(report, both))
    assert found[33] == pytest.approx(finding.value, rel=1e-6)
    assert found[7] > found[33]
    drawing = dots(report, both)
    assert drawing is not None
    assert [d.label for d in drawing.dots if d.front] == ["33", "7"]


def test_the_matrix_has_a_cell_for_every_share(report: Report) -> None:
    (moves,) = evidence().moves
    drawing = matrix(report, moves)
    cells = "".join(drawing.shades).count("M")
    assert cells == sum(share is not None and share > 0 for row in moves.shares for share in row)
    assert drawing.left_out.count("M") == 3
    assert [label.text for label in drawing.rows] == ["0", "1", "33", "rest"]
    assert drawing.leading[0] == ("33", "97%")
    assert len(drawing.marks) == 1


def test_reports_without_pictures() -> None:
    """Stored reports, and scans that stopped early, have a page as well."""
    full = read((FOLDER / "clean.json").read_text())
    assert "scan again with" in full.to_html()
    stopped = Report(
        verdict=inconclusive("too few images"), model=full.model, images=full.images, settings=full.settings, environment=full.environment
    )
    text = stopped.to_html()
    assert "Too few images." in text
    assert "What was looked for" not in text


def test_pictures_in_front_are_about_the_verdict(report: Report) -> None:
    """An all-to-all verdict shows the map, one about a class no change that is aimed at another."""
    mapped = replace(report.verdict, targets=(), mapping=tuple((c, (c + 1) % 43) for c in range(43)), kind=EVERY, criterion="noise map")
    assert leading(replace(report, verdict=mapped)) is None
    change = replace(evidence().changes[0], criterion="pixel map", target=None)
    both = replace(report, verdict=mapped, evidence=replace(evidence(), changes=(*evidence().changes, change)))
    assert leading(both) == change
    assert "0→1, 1→2, 2→3, 3→4, …" in both.to_html()
    elsewhere = replace(report, verdict=replace(report.verdict, targets=(12,), criterion="dormant"))
    assert leading(elsewhere) is None
    assert "The verdict does not rest on these" in elsewhere.to_html()
    assert elsewhere.to_html().index('id="graphs"') < elsewhere.to_html().index('id="pictures"')
    assert report.to_html().index('id="graphs"') > report.to_html().index('id="pictures"')
    patched = replace(report, verdict=replace(report.verdict, targets=(1,), criterion="patch share"))
    assert leading(patched) == evidence().changes[2]
    assert leading(replace(report, verdict=replace(report.verdict, criterion="noise"))) == evidence().changes[3]


def fleet() -> tuple[tuple[Report, ...], tuple[Failure, ...]]:
    """Two scans and one that failed."""
    clean, found = (read((FOLDER / f"{name}.json").read_text()) for name in ("clean", "backdoored"))
    return (clean, found), (Failure(Path("a b/ü.onnx"), None, "a b/ü.onnx: not an ONNX model", 3),)


def test_the_index_links_the_page_of_every_model(tmp_path: Path) -> None:
    """The gravest first; what failed has no page, and stdout has none beside it."""
    reports, failures = fleet()
    with whole(tmp_path / "all <i>.html") as file, file.open("w", encoding="utf-8") as stream:
        charts.write_many(reports, failures, stream)
    text = (tmp_path / "all <i>.html").read_text()
    page = Page(text)
    words = " ".join(" ".join(page.texts).split())
    assert "3 models: 1 backdoored, 1 failed, 1 no backdoor found" in words
    links = [value for tag, name, value in page.attributes if name == "href"]
    assert len(links) == 2
    for link, report in zip(links, reversed(reports), strict=True):
        own = (tmp_path / unquote(link)).read_text()
        assert own == report.to_html()
    assert re.search(r"backdoored\.onnx ▲ backdoored 33 [0-9.]+ \d+ .*ü\.onnx ✕ failed – – – Not an ONNX model\. .*clean\.onnx", words)
    assert len(list(tmp_path.iterdir())) == 3
    stream = io.StringIO()
    charts.write_many(reports, failures, stream)
    assert "href" not in stream.getvalue()


def test_two_reports_on_the_same_bytes_have_a_page_each(tmp_path: Path) -> None:
    """Copies of a file that were scanned on different images, say; the index's name may be a long one."""
    _, found = fleet()[0]
    other = replace(found, model=replace(found.model, path=Path("copy.onnx")), verdict=replace(found.verdict, outcome="inconclusive"))
    index = tmp_path / f"{'i' * 240}.html"
    with index.open("w", encoding="utf-8") as stream:
        charts.write_many((found, other), (), stream)
    links = [value for tag, name, value in Page(index.read_text()).attributes if name == "href"]
    assert [(tmp_path / unquote(link)).read_text() for link in links] == [found.to_html(), other.to_html()]


def test_a_stored_hash_is_no_way_out(tmp_path: Path) -> None:
    reports, _ = fleet()
    evil = replace(reports[1], model=replace(reports[1].model, sha256="../../evil"))
    (tmp_path / "in" / "in").mkdir(parents=True)
    with (tmp_path / "in" / "in" / "i.html").open("w", encoding="utf-8") as stream:
        charts.write_many((evil,), (), stream)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["i.html"]


@pytest.mark.parametrize("name", sorted(ALL))
def test_names_stay_text_in_the_index(name: str) -> None:
    made = []
    for text in (ALL[name], "x"):
        reports, failures = fleet()
        evil = tuple(everywhere(report, text) for report in reports)
        failed = tuple(Failure(hostile(f.path, text), None, f"{f.sentence} {text}", 3) for f in failures)
        made.append(to_index(evil, failed, {known(report): "page.html" for report in evil}))
    assert Page(made[0]).elements == Page(made[1]).elements
    assert all(c.isprintable() for c in made[0].replace("\n", ""))


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_the_index(tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    with page.open("w", encoding="utf-8") as stream:
        charts.write_many(*fleet(), stream)
    assert pictured(page, picture, height=500) == []
    with Image.open(picture) as image:
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert colours[(0x86, 0x0D, 0x1D)] > 50
    assert width_in(page, 320) == 320


def test_json_leaves_pictures_out(report: Report) -> None:
    assert "evidence" not in to_dict(report)
    assert render(report) == render(replace(report, evidence=None))
    assert "PNG" not in repr(report)


def test_notebooks_show_a_frame(report: Report) -> None:
    frame = report._repr_html_()
    page = Page(frame)
    assert [tag for tag, _ in page.elements] == ["p", "iframe"]
    attributes = {name: value for tag, name, value in page.attributes if tag == "iframe"}
    assert attributes["sandbox"] == ""
    assert attributes["srcdoc"] == report.to_html()


# how colours look to people without one kind of cones, in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1)
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = [0.95047, 1, 1.08883]


def linear(colour: str) -> np.ndarray:
    """Linear RGB of #rrggbb."""
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    x = np.array(XYZ) @ rgb.clip(0, 1) / np.array(WHITE)
    f = np.where(x > 0.008856, np.cbrt(x), 7.787 * x + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """Of WCAG 2."""
    dark, light = sorted(float(np.array(XYZ[1]) @ linear(c)) for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_can_be_told_apart(scheme: int) -> None:
    """Text is readable on its ground, and what is drawn in one chart differs to everybody by more than 20 in CIELAB."""
    style = (Path(charts.__file__).parent / "style.css").read_text()
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", style.split(":root {")[1 + scheme].partition("}")[0]))
    for text, ground in (
        ("text", "ground"),
        ("quiet", "ground"),
        ("quiet", "card"),
        ("called", "card"),
        ("doubt", "card"),
        ("dot", "card"),
    ):
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for tone in ("called", "doubt", "calm"):
        for text in (tone, "text", "quiet"):
            assert contrast(colours[text], colours[f"{tone}-ground"]) >= 4.5, (tone, text)
    for one, other in (("called", "doubt"), ("called", "dot"), ("doubt", "dot"), ("called", "shade")):
        for name, seen in BLIND.items():
            apart = np.linalg.norm(lab(np.array(seen) @ linear(colours[one])) - lab(np.array(seen) @ linear(colours[other])))
            assert apart > 20, (one, other, name, apart)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", ["as it is", *sorted(MARKUP)])
def test_a_browser_shows_it(report: Report, name: str, tmp_path: Path) -> None:
    """Nothing on the console, nothing wider than a narrow phone, and the verdict in its colour."""
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text((report if name == "as it is" else marked(report, MARKUP[name])).to_html(), encoding="utf-8")
    assert pictured(page, picture) == []
    with Image.open(picture) as image:
        assert image.size == (1000, 1400)
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert colours[(0x86, 0x0D, 0x1D)] > 500
    assert len(colours) > 500
    assert width_in(page, 320) == 320


@needs_browser
@pytest.mark.slow
def test_a_browser_takes_the_dark_colours(report: Report, tmp_path: Path) -> None:
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(report.to_html(), encoding="utf-8")
    assert pictured(page, picture, "--blink-settings=preferredColorScheme=0") == []
    with Image.open(picture) as image:
        assert image.convert("RGB").getpixel((3, 3)) == (0x14, 0x17, 0x1A)


@needs_browser
@pytest.mark.slow
def test_a_browser_prints_it(report: Report, tmp_path: Path) -> None:
    """On few pages, with nothing on the console, also for somebody who reads screens in dark colours."""
    page, printed = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(report.to_html(), encoding="utf-8")
    _, console = opened(page, f"--print-to-pdf={printed}", "--blink-settings=preferredColorScheme=0")
    assert console == []
    assert 3 <= len(re.findall(rb"/Type /Page\b", printed.read_bytes())) <= 8


@needs_browser
@pytest.mark.slow
def test_the_browser_would_tell(report: Report, tmp_path: Path) -> None:
    """A script that got into the page would be on the console, since the policy forbids it; and so would be a picture from elsewhere."""
    for evil in ("<script>document.title = 1</script>", '<img src="http://localhost:9/x.png">', '<p style="color:red">'):
        page = tmp_path / "page.html"
        page.write_text(report.to_html().replace("<main>", f"<main>{evil}"), encoding="utf-8")
        assert any("Content Security Policy" in line for line in pictured(page, tmp_path / "page.png"))

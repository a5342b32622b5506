"""`-o FILE.html`: a page beside the report, and what cannot be one."""

from pathlib import Path

import pytest

from tests.scanner.cli.test_main import FAST, banscan, failed


@pytest.mark.slow
def test_a_page_beside_the_report(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    page, out = tmp_path / "report <b>.html", tmp_path / "report.json"
    done = banscan(model_file, "--clean-dir", image_dir, *FAST, "--preprocess", "unit", "-o", page, "-o", out, "--format", "json")
    assert done.returncode in (0, 1, 2), done.stderr
    assert done.stderr == ""
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert model_file.name in text
    assert text.count("data:image/png;base64,") > 20
    assert "data:image" not in out.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["missing/page.html", ".", "model", "image"])
def test_a_page_that_cannot_be_written(place: str, model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """It is told before any work, and nothing that is read is overwritten."""
    image = next(image_dir.rglob("*.png"))
    page = {"model": model_file, "image": image}.get(place, tmp_path / place)
    before = model_file.read_bytes(), image.read_bytes()
    failed(banscan(model_file, "--clean-dir", image_dir, "-o", page), 4, "cannot be written|would be overwritten")
    assert (model_file.read_bytes(), image.read_bytes()) == before

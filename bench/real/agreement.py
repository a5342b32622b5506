"""How often a model says the same under two preprocessings.

python -m bench.real.agreement MODEL FOLDER --chosen JSON --true OPTIONS
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from banscan import importers
from banscan.scanner.cli.commands import scan
from banscan.scanner.cli.options import built
from banscan.scanner.inputs import images, preprocess
from banscan.scanner.settings import Options


def options_of(words: tuple[str, ...]) -> Options:
    """The options that words of the command line stand for.

    Raises:
        click.UsageError: an option that `banscan scan` does not have, or a value that cannot be.
    """
    return built(Options, scan.make_context("scan", ["model", "--clean-dir", "folder", *words]).params)


def share(path: Path, folder: Path, chosen: dict[str, Any], true: tuple[str, ...], most: int = 200) -> float:
    """The share of at most `most` images that get the same class under the chosen preprocessing and the true one."""
    options = replace(options_of(true), max_images=most)
    model = importers.load(path, logits=options.logits)
    clean = images.load(folder, model.input, model.classes, options)
    if model.input.height is None or model.input.width is None:
        model = importers.load(path, clean.images.shape[1:3], options.logits)
    right = preprocess.given(options)
    assert right is not None
    taken = preprocess.Preprocess(**(chosen | {"mean": tuple(chosen["mean"]), "std": tuple(chosen["std"])}))
    both = [preprocess.answers(model, p, clean.images).argmax(1) for p in (taken, right)]
    return float((both[0] == both[1]).double().mean())


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--chosen", required=True)
@click.argument("true", nargs=-1, type=click.UNPROCESSED)
def main(model: Path, folder: Path, chosen: str, true: tuple[str, ...]) -> None:
    """Print the share."""
    click.echo(share(model, folder, json.loads(chosen), true))


if __name__ == "__main__":
    main()

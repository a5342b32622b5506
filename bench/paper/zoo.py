"""Trains the models of `recipes`; a second run goes on where the first stopped."""

import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click
import torch

from banscan.errors import BanscanError
from banscan.scanner.machine.device import find
from bench.paper import recipes
from bench.zoo import data, queue
from bench.zoo.train import recipe_of

ROOT = Path(__file__).parents[2]


def on_ray(commands: Sequence[Sequence[str]], address: str | None) -> int:
    """Runs them on a Ray cluster, one for each of its GPUs at a time; returns how many failed.

    Data and output must be at the same paths on all its machines. None starts a cluster of this machine alone.
    """
    import ray

    ray.init(address=address, log_to_driver=True)

    def task(words: Sequence[str]) -> bool:
        return subprocess.run(words, check=False, cwd=ROOT).returncode != 0

    # a model that a lost machine was training is trained again
    remote = ray.remote(num_gpus=1, max_retries=3)(task)
    try:
        return sum(ray.get([remote.remote(list(words)) for words in commands]))
    finally:
        ray.shutdown()


@click.command()
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Unpacked data sets.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Models and manifests.")
@click.option("--scale", type=click.Choice(list(recipes.SCALES)), default="small", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda (all GPUs where Ray is installed, or the first) or cuda:N.")
@click.option("--jobs", default=2, show_default=True, help="Trainings at a time where there is no Ray; each of one thread.")
@click.option("--ray", "address", help="Address of a Ray cluster; left out: this machine.")
@click.option("--set", "sets", multiple=True, type=click.Choice(list(recipes.CLASSES)), help="These data sets only; left out: all.")
@click.option("--list", "listed", is_flag=True, help="Print the recipes that are left, and train nothing.")
def command(folder: Path, out: Path, scale: str, device: str, jobs: int, address: str | None, sets: tuple[str, ...], listed: bool) -> None:
    """Train the paper's models into OUT."""
    try:
        where = find(device)
    except BanscanError as error:
        raise click.UsageError(str(error)) from error
    if address is not None and (find_spec("ray") is None or device != "cuda"):
        raise click.UsageError(f"--ray {address}: needs ray (pip install 'banscan[ray]') and --device cuda")
    wanted = [line for line in recipes.lines(scale) if not sets or line.split()[1] in sets]
    missing = [f"{name} ({why})" for name in dict.fromkeys(line.split()[1] for line in wanted) if (why := data.missing(folder, name))]
    if missing:
        raise click.UsageError(f"{folder} does not hold {'; nor '.join(missing)}; unpack what is missing there, or name others with --set")
    left = [line for line in wanted if not (out / f"{recipe_of(line).name}.json").exists()]
    click.echo(f"{len(wanted)} models, {len(wanted) - len(left)} of them trained")
    if listed:
        click.echo("\n".join(left))
        return
    commands = [queue.command(line, folder.resolve(), out.resolve(), "--device", device) for line in left]
    several = address is not None or (device == "cuda" and torch.cuda.device_count() > 1)
    if several and find_spec("ray") is None:
        click.echo("There are several GPUs, of which the first is used; pip install 'banscan[ray]' for all of them.")
        several = False
    failed = on_ray(commands, address) if several else queue.run(commands, jobs if where.type == "cpu" else 1)
    if failed:
        raise SystemExit(f"{failed} models could not be trained; the lines above say why")

"""How a command is called, with what the user has given already: for those who left something out."""

import shlex

import click

from banscan.scanner.cli.topics import EXAMPLES

# the least that each command takes; names are those of its parameters
LEAST = {
    "scan": "banscan {models} --clean-dir {clean_dir}",
    "inspect": "banscan inspect {model}",
    "repair": "banscan repair {model} --clean-dir {clean_dir} -o {output}",
    "calibrate": "banscan calibrate --clean-models {clean_models} --clean-dir {clean_dir} -o {output}",
}
# what stands for a path that was not given; a repair writes a file of the kind that it reads
STANDING = {"model": "model.onnx", "models": "model.onnx", "clean_dir": "imgs/", "clean_models": "models/"}


def example(context: click.Context) -> str:
    """A complete call of a command of which something is missing."""
    name = str(context.command.name)
    if name not in LEAST:
        return EXAMPLES[name][0]
    given = {key: str(value) for key, value in context.params.items() if value is not None}
    words = [str(word) for word in context.params.get("models") or ()]
    given.pop("models", None)
    suffix = given.get("model", STANDING["model"]).rpartition("/")[2].rpartition(".")[2]
    output = "calibration.json" if name == "calibrate" else f"fixed.{suffix}"
    values = {**STANDING, "output": output, **given}
    quoted = {key: shlex.quote(value) for key, value in values.items()}
    return LEAST[name].format(**quoted | ({"models": shlex.join(words)} if words else {}))

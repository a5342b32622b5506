"""Logic in the graph of a file as a part of a scan: when it is looked for, and what it means for the verdict."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from banscan import importers
from banscan.errors import BanscanError, EvidenceError, ModelError, UsageError
from banscan.importers import Input, TracedModel
from banscan.importers.structure import client
from banscan.importers.structure.finding import Logic, Look, Structure
from banscan.scanner.findings import ONE, Verdict
from banscan.scanner.inputs import images
from banscan.scanner.inputs.preprocess import CANDIDATES, Preprocess, given
from banscan.scanner.inputs.trial import choose
from banscan.scanner.settings import Options
from banscan.scanner.verdict import STEPS

CRITERION = "structure"
# clean images that the graph is run on, fewer of large ones
IMAGES, LEAST = 48, 16
PIXELS = 48 * 32 * 32
NEXT = (
    "Do not deploy this file: what is named here was written into its graph, and no training does that. `banscan repair` changes weights "
    "and leaves it where it is; ask for the network that it was added to."
)


@dataclass(frozen=True)
class Apart:
    """A file that cannot be read as it is: what was found in its structure, and the network without that, where it could be read."""

    structure: Structure
    model: TracedModel | None


def examine(
    path: Path, logits: str | None, pictures: np.ndarray, spec: Input, preprocess: Preprocess
) -> tuple[Structure, dict[str, Any] | None]:
    """Runs a file on some of the clean images, uint8 [N, H, W, C]; see `client.examine`. That it could not be run is said in the result."""
    x = preprocess(picked(pictures), spec.layout)
    ends = [np.full_like(pictures[:1], value) for value in (0, 255)]
    pixels = [float(v) for end in ends for v in (preprocess(end, spec.layout).min(), preprocess(end, spec.layout).max())]
    try:
        return client.examine(path, x, (min(pixels), max(pixels)), logits)
    except BanscanError as error:
        return Structure(not_done=str(error).removeprefix(f"{path}: ")), None


def picked(pictures: np.ndarray) -> np.ndarray:
    """Some of the images, spread evenly."""
    count = max(LEAST, min(IMAGES, PIXELS // (pictures.shape[1] * pictures.shape[2])))
    some: np.ndarray = pictures[np.unique(np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(int))]
    return some


def look(path: Path, logits: str | None) -> Look | None:
    """What is seen in a file that cannot be read: None where nothing in its structure is the reason for that."""
    try:
        found = client.look(path, logits)
    except BanscanError:
        return None
    return found if found is not None and found.unsettled else None


def apart(path: Path, logits: str | None, pictures: np.ndarray, spec: Input, asked: Preprocess | None) -> Apart:
    """What comes of the logic of a file that cannot be read with it, under the preprocessing asked for, or else the usual ones in turn.

    That under which the network can be read without it counts; else the first one under which the logic is proved.
    """
    tried: list[Structure] = []
    for preprocess in (asked,) if asked is not None else CANDIDATES:
        if preprocess.bgr and pictures.shape[-1] == 1:
            continue
        structure, settled = examine(path, logits, pictures, spec, preprocess)
        tried.append(structure)
        if settled is None:
            continue
        size = None if spec.height is not None and spec.width is not None else (pictures.shape[1], pictures.shape[2])
        try:
            return Apart(structure, importers.load(path, size, logits, settled))
        except ModelError:
            continue
    return Apart(min(tried, key=lambda s: (not s.proofs, not s.doubts, s.not_done is not None)), None)


def again(model: TracedModel, logits: str | None, pictures: np.ndarray, preprocess: Preprocess) -> tuple[Structure, TracedModel]:
    """What is found of a file under the preprocessing that was chosen, and the model without it where there is something."""
    path = model.source.path
    structure, settled = examine(path, logits, pictures, model.input, preprocess)
    if not structure.proofs or settled is None or settled == model.source.settled:
        return replace(structure, apart=model.source.settled is not None), model
    try:
        without = importers.load(path, (pictures.shape[1], pictures.shape[2]), logits, settled)
    except ModelError:
        return replace(structure, apart=model.source.settled is not None), model
    return replace(structure, apart=True), without


def readable(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """A file read as a network; one that cannot be, for what in its graph decides by the pixels, is told with the way to that.

    Raises:
        EvidenceError: the file cannot be read for its logic.
        ModelError: as of `importers.load`.
    """
    try:
        return importers.load(path, size, logits)
    except ModelError as error:
        seen = look(path, logits)
        if seen is None:
            raise
        place = seen.structure.places[0]
        raise EvidenceError(f"{error}; {sentence(place)}: look at it with banscan inspect {path} --structure --clean-dir DIR") from error


def inspected(path: Path, clean_dir: Path | None, options: Options) -> Structure:
    """The structure of a file; with images, run on them under the given preprocessing, or the one that they support.

    Raises:
        UsageError: no such file or folder.
        ModelError: the file is damaged, is refused, or has no single input for images.
        UndecidedError: the images leave open which of several preprocessings is right.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file; expected the path of a model")
    wanted, logits = given(options), options.logits
    seen = client.look(path, logits)
    if seen is None:
        importers.load(path, logits=logits)  # says what it is
        raise ModelError(f"{path}: not a model file that can be looked at")
    if clean_dir is None:
        return seen.structure
    try:
        model = importers.load(path, logits=logits)
    except ModelError:
        if not seen.unsettled or seen.classes < 2:
            raise
        return apart(path, logits, images.load(clean_dir, seen.input, seen.classes, options).images, seen.input, wanted).structure
    clean = images.load(clean_dir, model.input, model.classes, options, known=model.class_names)
    if wanted is None:
        if model.input.height is None or model.input.width is None:
            model = importers.load(path, (clean.images.shape[1], clean.images.shape[2]), logits)
        wanted = choose(model, clean.images, clean.labels).preprocess
    return examine(path, logits, clean.images, model.input, wanted)[0]


def weighed(verdict: Verdict, structure: Structure | None) -> Verdict:
    """The verdict on a file: what its structure proves or leaves doubtful outranks what the scan of its network says."""
    if structure is None:
        return verdict
    own = f"{verdict.outcome} ({verdict.reason})"
    network = f"the network without it: {own}" if structure.apart else f"the scan of the whole: {own}"
    if structure.proofs:
        targets = dict.fromkeys(p.target for p in structure.proofs if p.target is not None)
        targets |= dict.fromkeys(verdict.targets if verdict.outcome == "backdoored" else ())
        reason = "; ".join((*(sentence(p) for p in structure.proofs[:3]), network))
        found = {"kind": ONE, "targets": tuple(targets), "mapping": (), "criterion": CRITERION, "p_value": None}
        return replace(verdict, outcome="backdoored", reason=reason, next_step=NEXT, **found)  # type: ignore[arg-type]
    if verdict.outcome not in ("backdoored", "suspicious") and structure.doubts:
        doubt = structure.doubts[0]
        reason = f"{sentence(doubt)}; {network}"
        targets_ = () if doubt.target is None else (doubt.target,)
        return replace(
            verdict, outcome="suspicious", reason=reason, next_step=STEPS["doubt"], kind=ONE, targets=targets_, criterion=CRITERION
        )
    return verdict


def unread(structure: Structure, why: str) -> Verdict:
    """The verdict on a file whose network could not be read, for what was found in its structure or for another reason."""
    reason = f"its graph decides by the pixels beside the network ({', '.join(named(p) for p in structure.places[:3])})"
    reason += f", which could not be settled; {structure.not_done}" if structure.not_done else ", which could not be settled"
    return Verdict(outcome="inconclusive", reason=f"{reason}; and the network cannot be read: {why}", next_step=STEPS["doubt"])


def check(structure: Structure | None, path: Path) -> None:
    """Raises EvidenceError for a file with logic that no change of weights takes out."""
    if structure is not None and structure.proofs:
        raise EvidenceError(f"{path}: {sentence(structure.proofs[0])}; repair changes weights, and leaves that where it is")


def named(place: Logic) -> str:
    """Operator and tensor of a place."""
    return f"{place.operator} {place.tensor!r}"


def sentence(place: Logic) -> str:
    """What a place does, with its numbers."""
    where = f"{named(place)}, {place.before} operators with weights behind the pixels and {place.after} before the logits"
    if place.state is None or place.moved is None or place.changed is None:
        how = {None: "", True: ", is the same for all clean images", False: ", differs between clean images"}[place.constant]
        return f"the graph decides by the pixels at {where}{how}"
    others = f"sends {place.moved:.0%} of the other classes' clean images to class {place.target}"
    changes = f"changes the answer for {place.changed:.0%} of all"
    return f"the graph decides by the pixels at {where}: set to {place.state}, it {others} and {changes}"

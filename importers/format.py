"""What a model format is to everything that is not its own reader."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from banscan.importers.model import Source, TracedModel
from banscan.importers.structure.finding import Look, Structure
from banscan.importers.structure.settle import Settled


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of model files, declared beside its reader.

    Attributes:
        name: as reports and `Source.format` have it.
        suffixes: of its files, for listing a folder of models; what one file is tells its content.
        recognises: path of a file → whether it is of this format, by its content. ModelError for a file so damaged that none can tell.
        read: path, size of the images (height, width) where the file leaves it free, name of the output that holds the logits, what is
            put in the place of logic beside the network → the model. UsageError for an output where files of this format name none;
            ModelError for a file that is damaged, is refused, or holds no image classifier that can be traced.
        second: the name of another reader of its files, an optional package; None where there is none.
        read_again: `read` by that one. ModelError as of `read`, and where it is not installed.
        look: path, name of the output → what of its graph decides by the pixels. ModelError as of `read`.
        examine: path, name of the output, preprocessed images [N, ...], bounds of their values, seconds → what becomes of the answers
            when that is made to decide otherwise, and what stands for it in a graph without. ModelError as of `read`.
        runtime: the name of the runtime that its files are written for; None where there is none that may run them.
        run: source, float32 images [N, ...] → that runtime's own answers for the first of them, as many as it takes, float32.
        write: source, values by the file's own names of its weights, path → nothing; the file with these values is at the path then.
            ModelError for a weight that the file does not hold. None where files of this format are not written.
        deploy: source, kind of deployment, preprocessed float32 images [N, ...] → the file as it would be deployed; ModelError where its
            runtime does not make that of it. None where no runtime does.
    """

    name: str
    suffixes: tuple[str, ...]
    recognises: Callable[[Path], bool]
    read: Callable[[Path, tuple[int, int] | None, str | None, Settled | None], TracedModel]
    look: Callable[[Path, str | None], Look]
    examine: Callable[[Path, str | None, np.ndarray, tuple[float, float], float], tuple[Structure, Settled]]
    second: str | None = None
    read_again: Callable[[Path, tuple[int, int] | None, str | None, Settled | None], TracedModel] | None = None
    runtime: str | None = None
    run: Callable[[Source, np.ndarray], np.ndarray] | None = None
    write: Callable[[Source, dict[str, Tensor], Path], None] | None = None
    deploy: Callable[[Source, str, np.ndarray], bytes] | None = None

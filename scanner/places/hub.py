"""Models of the Hugging Face Hub, `hf://owner/name[@revision][/path]`, through its own client; nothing but bytes is fetched."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from banscan.errors import BanscanError, UsageError
from banscan.scanner.places.choice import chosen

EXPECTED = "expected hf://owner/name, hf://owner/name@revision or hf://owner/name@revision/path/in/it"
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
FORM = re.compile(rf"({NAME})/({NAME})(?:@(refs/(?:pr|convert)/[^/@]+|[^/@]+))?(?:/(.+))?")
# seconds until the hub has to begin to answer
PATIENCE = 30
# nothing is told beside what is asked for, and nobody watches
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}


@dataclass(frozen=True)
class Place:
    """A repository, at a revision where one is named, and a file or folder in it."""

    repository: str
    revision: str | None
    inside: str | None

    def __str__(self) -> str:
        return f"hf://{self.repository}{f'@{self.revision}' if self.revision else ''}"


def parse(text: str) -> Place:
    """The place that is named behind `hf://`.

    Raises:
        UsageError: it is none.
    """
    found = FORM.fullmatch(text)
    if found is None or ".." in text:
        raise UsageError(f"hf://{text}: names no model; {EXPECTED}")
    owner, name, revision, inside = found.groups()
    return Place(f"{owner}/{name}", revision, inside)


def fetch(text: str, folder: Path) -> tuple[Path, str]:
    """The model's file in the client's own cache, and its full name with the commit that the revision stands for.

    A model with weights in files of their own lies in `folder` with them, since a cache of links is none of the model's folder.

    Raises:
        UsageError: there is no such repository, revision or file, it may not be read, or it holds several models.
        ModelError: it holds none.
        BanscanError: the hub cannot be reached, or sends something else than it names.
    """
    place = parse(text)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from huggingface_hub import HfApi, hf_hub_download

    from banscan.importers.digest import sha256  # torch comes with it

    with _told(place):
        known = HfApi().model_info(place.repository, revision=place.revision, timeout=PATIENCE, files_metadata=True)
    commit = str(known.sha)
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise BanscanError(f"{place}: the hub names no commit of it; try again later")
    files = {file.rfilename: file for file in known.siblings or ()}
    names = chosen(str(place), files, place.inside)
    paths = []
    for name in names:
        with _told(place):
            paths.append(Path(hf_hub_download(place.repository, name, revision=commit)))
        stored = getattr(files[name].lfs, "sha256", None)
        if stored is not None and sha256(paths[-1]) != stored:
            raise BanscanError(f"{place}/{name}: what arrived is not what the hub names; take it out of the client's cache and try again")
    return paths[0] if len(paths) == 1 else _together(paths, folder), f"hf://{place.repository}@{commit}/{names[0]}"


def _together(paths: list[Path], folder: Path) -> Path:
    """Copies of the files side by side in a folder; ONNX takes no links, hard ones neither, for files with weights."""
    for path in paths:
        shutil.copyfile(path, folder / path.name)
    return folder / paths[0].name


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """What the client raises, in one sentence of ours."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise UsageError(f"{place}: gated; ask for access on its page, and log in with `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{place}: no such revision of {place.repository}; expected a branch, a tag or a commit") from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(f"{place}: no such repository, or a private one; check the name, or log in with `hf auth login`") from error
    except (errors.RemoteEntryNotFoundError, errors.HFValidationError) as error:
        raise UsageError(f"{place}: {_words(error)}; {EXPECTED}") from error
    except errors.OfflineModeIsEnabled as error:
        raise BanscanError(f"{place}: HF_HUB_OFFLINE is set; take it away, or give the path of a file") from error
    except OSError as error:
        if error.filename is not None:  # of this machine: a full disk, a cache that may not be written
            raise
        raise _unreachable(place, error) from error
    except Exception as error:  # the client's transport has errors of its own, and changes it
        raise _unreachable(place, error) from error


def _unreachable(place: Place, error: Exception) -> BanscanError:
    return BanscanError(f"{place}: cannot be fetched ({_words(error)}); check the network and HF_ENDPOINT, or try again later")


def _words(error: Exception) -> str:
    """The first line of what an error says."""
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]

"""Models of an MLflow registry, `models:/name/version[/path]` or `models:/name@alias[/path]`, through its own client.

Only bytes are fetched: no flavour of a model is loaded.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from banscan.errors import BanscanError, UsageError
from banscan.scanner.places.choice import chosen

EXPECTED = "expected models:/name/version or models:/name@alias, with the path of a file in it where it holds several"
FORM = re.compile(r"([^/:@]+)(?:/([^/@]+)|@([^/@]+))(?:/(.+))?")
# entries of a model's folder; a registry may hold anything
MOST = 10_000
# who asks, in an address: no business of an error's reader
USER = re.compile(r"//[^/@]*@")
# nothing is told beside what is asked for, nobody watches, and a server that is not there is given up after seconds, not minutes
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
# what MLflow calls something that is not there, or may not be read
MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "NOT_FOUND"})
CLOSED = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"})


@dataclass(frozen=True)
class Place:
    """A registered model, its version or an alias of one, and a file or folder in it."""

    name: str
    version: str | None
    alias: str | None
    inside: str | None

    def __str__(self) -> str:
        return f"models:/{self.name}{f'/{self.version}' if self.version else f'@{self.alias}'}"


def parse(text: str) -> Place:
    """The place that is named behind `models:/`; a word in the place of a version is an alias.

    Raises:
        UsageError: it is none.
    """
    found = FORM.fullmatch(text)
    if found is None or ".." in text.split("/"):
        raise UsageError(f"models:/{text}: names no model; {EXPECTED}")
    name, version, alias, inside = found.groups()
    number = version is not None and re.fullmatch(r"[0-9]{1,18}", version) is not None
    return Place(name, version if number else None, alias if alias is not None else None if number else version, inside)


def fetch(text: str, folder: Path) -> tuple[Path, str]:
    """The model's file below `folder`, and its full name with the version that an alias stands for. MLflow has no cache.

    Raises:
        UsageError: no registry is named, it has no such model, or that holds several.
        ModelError: it holds none.
        BanscanError: the registry, or the place where it keeps models, cannot be reached.
    """
    place = parse(text)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient, artifacts, get_tracking_uri
    from mlflow.tracking import is_tracking_uri_set

    if not is_tracking_uri_set() and not os.environ.get("MLFLOW_REGISTRY_URI"):
        raise UsageError(f"{place}: no registry is named; let MLFLOW_TRACKING_URI name one, as http://localhost:5000")
    with _told(place, USER.sub("//", get_tracking_uri())):
        client = MlflowClient()
        if place.version is not None:
            found = client.get_model_version(place.name, place.version)
        else:
            found = client.get_model_version_by_alias(place.name, str(place.alias))
        if re.fullmatch("[0-9]{1,18}", str(found.version)) is None:
            raise BanscanError(f"{place}: the registry names no version of it; try again later")
        root = f"models:/{place.name}/{found.version}"
        names = chosen(str(place), _files(artifacts, root), place.inside)
        kept = folder / re.sub(r"[^\w.-]", "_", place.name) / str(found.version)
        kept.mkdir(parents=True)
        paths = [Path(artifacts.download_artifacts(artifact_uri=f"{root}/{name}", dst_path=str(kept))) for name in names]
    return paths[0], f"{root}/{names[0]}"


def _files(artifacts: Any, root: str) -> Iterator[str]:
    """The names of all files of a model, below its folder."""
    waiting, seen = [""], 0
    while waiting:
        inside = waiting.pop()
        for entry in artifacts.list_artifacts(artifact_uri=f"{root}/{inside}" if inside else root):
            name = f"{inside}/{entry.path.rpartition('/')[2]}" if inside else entry.path.rpartition("/")[2]
            seen += 1
            if seen > MOST:
                raise UsageError(f"{root}: holds more than {MOST:,} files; name the one: {root}/path/in/it")
            if entry.is_dir:
                waiting.append(name)
            else:
                yield name


@contextmanager
def _told(place: Place, where: str) -> Iterator[None]:
    """What the client raises, in one sentence of ours."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except BanscanError:
        raise
    except MlflowException as error:
        if error.error_code in MISSING:
            raise UsageError(f"{place}: no such model in {where} ({_words(error)}); {EXPECTED}") from error
        if error.error_code in CLOSED:
            raise UsageError(f"{place}: {where} does not let it be read ({_words(error)}); log in as MLflow asks for it") from error
        raise _unreachable(place, where, error) from error
    except OSError as error:
        if error.filename is not None:
            raise
        raise _unreachable(place, where, error) from error
    except Exception as error:  # the client's transports have errors of their own
        raise _unreachable(place, where, error) from error


def _unreachable(place: Place, where: str, error: Exception) -> BanscanError:
    return BanscanError(f"{place}: cannot be fetched from {where} ({_words(error)}); check the network, or try again later")


def _words(error: Exception) -> str:
    """The first line of what an error says."""
    said = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return USER.sub("//", said)[:200]

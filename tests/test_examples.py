"""The notebook in examples/: its cells run in order and show what they say; and the names in the documentation."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import banscan

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples" / "scan.ipynb"
# in place of Jupyter, which is thirty packages: one namespace for all cells; of a last expression the text, or the page where it has one
RUNNER = """
import ast, json, sys
names, shown = {"__name__": "__main__"}, []
for source in json.load(sys.stdin):
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    value = None if last is None else eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
    page = getattr(value, "_repr_html_", lambda: None)()
    shown.append([repr(value) if page is None else None, page])
print(json.dumps(shown))
"""


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_one_and_holds_no_outputs() -> None:
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert document["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells("code"))
    assert NOTEBOOK.stat().st_size < 10_000


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_says() -> None:
    sources = json.dumps(["".join(cell["source"]) for cell in cells("code")])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    before = {path.name for path in NOTEBOOK.parent.iterdir()}
    command = [sys.executable, "-c", RUNNER]
    result = subprocess.run(command, cwd=NOTEBOOK.parent, input=sources, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    version, outcome, page, values, outcomes = json.loads(result.stdout)
    assert version == [repr(banscan.__version__), None]
    assert outcome[0].startswith("('backdoored', (33,), ")
    assert 'sandbox title="banscan: Backdoored: class 33 looks like' in page[1]
    assert "'noise': (" in values[0]
    assert "'perturbation'" not in values[0]
    assert "'clean.onnx': 'no backdoor found'" in outcomes[0]
    assert "'README.md': 'README.md: " in outcomes[0]
    assert {path.name for path in NOTEBOOK.parent.iterdir()} == before


@pytest.mark.parametrize("page", ["README.md", "docs/python.md", "examples/scan.ipynb"])
def test_names_in_the_documentation_are_public(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    names = set(re.findall(r"\bbanscan\.([A-Za-z_]+)\(", text))
    assert names
    assert names <= set(banscan.__all__)
    for call in re.findall(r"^\| `(\w+)\(", text, re.MULTILINE):
        assert call in banscan.__all__

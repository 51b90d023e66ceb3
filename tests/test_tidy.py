"""House rules, as tests: words, sizes, documented names, and documents that tell the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINES_MAX = 460  # "about 400": a file is read in one sitting
FUNCTION_LINES_MAX = 75


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_a_file_is_read_in_one_sitting(path: Path) -> None:
    """No module grows past a sitting; split it first."""
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_functions_fit_a_screen(path: Path) -> None:
    """No function is longer than about one screen."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_public_names_are_documented(path: Path) -> None:
    """Every public class and function, and every public method, says what it is."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
    for node in [*tree.body, *(inner for outer in classes for inner in outer.body)]:
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if named and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", [*SOURCES, *DOCUMENTS], ids=_relative)
def test_words_of_the_glossary_are_used(path: Path) -> None:
    """Our own output is an advisory; "alarm" is IEC 60601-1-8's word and stands only beside that number."""
    if path.name == "glossary.md":
        return
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if re.search(r"\balarms?\b", line, re.IGNORECASE):
            assert re.search(r"60601|PR_SET|signal\.alarm|false alarm", line), f"line {number}: {line.strip()}"


OTHER_SENSE = frozenset({"gateway", "feed", "package", "artefact", "partition", "heartbeat"})
"""Synonyms that this field needs for something else: a monitor's gateway, a Python package, an artefact in an ECG …"""


def _refused_synonyms() -> set[str]:
    rows = [line.split("|") for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()]
    cells = [row[3].strip() for row in rows if len(row) == 5 and re.fullmatch(r"[a-z ,]+", row[3].strip())]
    words = {word.strip() for cell in cells if not cell.startswith("never") for word in cell.split(",")}
    return words - OTHER_SENSE - {"not"}


@pytest.mark.parametrize("path", [*SOURCES, *DOCUMENTS], ids=_relative)
def test_synonyms_of_the_glossary_are_not_used(path: Path) -> None:
    """One word for one thing: what the glossary's last column names is not written elsewhere."""
    refused = _refused_synonyms()
    assert {"prediction", "deployment", "telemetry", "edge node"} <= refused
    if path.name == "glossary.md":
        return
    pattern = re.compile(rf"\b({'|'.join(sorted(refused))})s?\b", re.IGNORECASE)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        # the name of an element of FHIR's RiskAssessment, and the title of a paper
        ours = line.replace('"prediction"', "").replace("Early Prediction of Sepsis", "")
        assert not pattern.search(ours), f"line {number}: {line.strip()}"


@pytest.mark.parametrize("path", [*SOURCES, *DOCUMENTS, *sorted((ROOT / "bench").glob("*.py"))], ids=_relative)
def test_nothing_names_the_workplace(path: Path) -> None:
    """No path of one machine stands in code or documents."""
    assert not re.search(r"/work/|/opt/wheels|/root/", path.read_text())


def test_no_pickle_anywhere() -> None:
    """A file from outside is never unpickled."""
    for path in SOURCES:
        text = path.read_text()
        assert not re.search(
            r"^\s*(import pickle|from pickle)|allow_pickle=True|weights_only=False", text, re.MULTILINE
        ), path


def test_the_cli_reference_is_what_help_says() -> None:
    """docs/cli.md is exactly what `make docs` writes."""
    command = [sys.executable, str(ROOT / "bench" / "cli_reference.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == (ROOT / "docs" / "cli.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link in a document names a file that is there."""
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{_relative(path)} links to {target}"

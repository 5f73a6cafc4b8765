"""All commands and code in README and documents work, and sentences are short."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
CT = ROOT / "Resources" / "samples" / "chest_ct" / "chest_ct_cropped.nii.gz"


def blocks(document: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(document.read_text(encoding="utf-8")) if kind == language]


def command_lines() -> list[tuple[str, str]]:
    """(document, line) of every use of our commands in the documents, in blocks and in running text."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        block_lines = [line for kind, body in FENCE.findall(text) if kind == "sh" for line in body.splitlines()]
        inline = [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", FENCE.sub("", text))]
        indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
        for line in (*block_lines, *inline, *indented):
            if re.match(r"fasttextdiff(-lab)? [a-z]", line):
                found.append((document.name, line.split(" #")[0].strip()))
    return list(dict.fromkeys(found))


def help_of(program: str, command: str) -> str:
    module = {"fasttextdiff": "fasttextdiff", "fasttextdiff-lab": "fasttextdiff_lab"}[program]
    done = subprocess.run(
        [sys.executable, "-m", module, command, "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "200", "PATH": "", **_environment()},
        check=False,
    )
    assert done.returncode == 0, (program, command, done.stderr)
    return done.stdout


def _environment() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if name != "COLUMNS"}


@pytest.fixture(scope="module")
def helps() -> dict[tuple[str, str], str]:
    return {}


@pytest.mark.parametrize(("document", "line"), command_lines())
def test_every_command_line_names_a_command_and_options_that_exist(document, line, helps):
    program, command, *arguments = shlex.split(line)
    key = program, command
    helps[key] = helps.get(key) or help_of(program, command)
    options = {argument.split("=")[0] for argument in arguments if re.match(r"--?[a-z]", argument)}
    assert [option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", helps[key])] == []


@pytest.fixture
def chest(tmp_path, monkeypatch):
    """A folder with the file of the examples: a few slices of the sample."""
    image = nibabel.load(CT)
    nibabel.save(image.slicer[:, :, 60:62], tmp_path / "chest.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_library_example_writes_the_segmentation(chest):
    (code,) = [code for code in blocks(README, "python") if "write_segmentation" in code]
    (chest / "example.py").write_text(code)
    runpy.run_path(str(chest / "example.py"))
    assert (chest / "chest.seg.nrrd").stat().st_size > 100


def test_the_first_command_line_example_writes_its_files(chest):
    line = next(line for line in blocks(README, "sh")[0].splitlines() if " segment " in line)
    program, *arguments = shlex.split(line)
    done = subprocess.run([sys.executable, "-m", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"chest.seg.nrrd", "chest.png"} <= {path.name for path in chest.iterdir()}


def prose(document: Path) -> str:
    """The running text, without code, tables, pictures and headings; a list item is a paragraph."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    lines = [line for line in text.splitlines() if not re.match(r"\s*(\||#|    |:::|\{)", line)]
    return re.sub(r"\n\s*([*-]|\d+\.) ", "\n\n", "\n".join(lines))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_sentence_is_longer_than_35_words(document):
    long = []
    for paragraph in re.split(r"\n\s*\n", prose(document)):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z`*\"(])", " ".join(paragraph.split())):
            if len(re.findall(r"[\w'/.-]+", sentence)) > 35:
                long.append(sentence)
    assert long == []

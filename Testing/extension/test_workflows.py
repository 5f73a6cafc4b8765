"""GitHub workflows, as far as they can be checked without GitHub: rights, versions, and the files that they name."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FILES = re.compile(
    r"(?<![\w./-])((?:\.ci|\.github|Testing|scripts|Resources|FastTextDiffSegment)/[\w./-]*\w|run\.py)\b"
)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_read_only_rights_and_pinned_actions(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            assert re.fullmatch(r"actions/[\w-]+@v\d+\.\d+\.\d+", step.get("uses", "actions/x@v1.0.0"))
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_files_named_by_workflows_exist(path):
    named = {name for name in FILES.findall(path.read_text(encoding="utf-8")) if "*" not in name}
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_python_that_the_package_supports_is_tested():
    matrix = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))["jobs"]["test"][
        "strategy"
    ]
    oldest = re.search(r'requires-python = ">=(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"))[1]
    assert matrix["matrix"]["python"][0] == oldest
    assert {system.split("-")[0] for system in matrix["matrix"]["system"]} == {"ubuntu", "macos", "windows"}


def test_slicer_gets_all_packages_that_the_self_test_needs():
    from fasttextdiff import environment

    step = (ROOT / ".github" / "workflows" / "slicer.yml").read_text("utf-8")
    lists = re.search(r"from fasttextdiff.environment import ([\w, ]+);", step)[1].split(", ")
    installed = {requirement for name in lists for requirement in getattr(environment, name)}
    assert {*environment.REQUIREMENTS, *environment.OPENVINO} <= installed
    assert all(name in re.search(r"print\((.+), sep", step)[1] for name in lists)

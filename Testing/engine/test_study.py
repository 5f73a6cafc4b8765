"""Studies: a grid under equal conditions that survives failures and kills, and a report that follows from its masks."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from own_folders import picture_folder
from tiny_models import one_line, save_text_encoder

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.evaluation.datasets import load_image, load_targets
from fasttextdiff.evaluation.metrics import protocol_i, protocol_p, score, shown
from fasttextdiff_lab.study import numbers, runner
from fasttextdiff_lab.study.definition import read_study
from fasttextdiff_lab.study.images import Batches, training_set
from fasttextdiff_lab.study.runner import run_study
from fasttextdiff_lab.study.systems.registry import check_systems

HERE = Path(__file__).parent


@pytest.fixture
def study(tmp_path):
    """Write a study of the small pictures; values replace those of the file. Returns its path."""
    picture_folder(tmp_path / "data")

    def write(name="study", **values):
        content = {
            "title": "Small", "question": "Does it work?", "where": "a test", "reference": "tiny",
            "data": {"spots": {"folder": "data", "test": "train"}},
            "systems": {"tiny": {"kind": "study_systems:tiny"}},
            "budget": {"steps": 3}, "labels": [2], "size": 32, "batch": 2, "learning_rate": 1e-2, **values,
        }  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return path

    return write


@pytest.fixture
def in_this_process(monkeypatch):
    """Run cells in a thread of this process: starting others takes most of the time."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(numbers, "DRAWS", 100)

    @contextmanager
    def local(address, workers):
        with distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
        ) as cluster:
            yield cluster

    monkeypatch.setattr(runner, "_scheduler", local)


def masks_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("masks/**/*.png"))}


def test_a_grid_is_reported_from_its_masks(study, in_this_process, tmp_path):
    save_text_encoder(tmp_path / "encoder")
    path = study(
        systems={
            "tiny": {"kind": "study_systems:tiny"},
            "reading": {"kind": "study_systems:reading", "encoder": "small"},
        },
        encoders={"small": {"name": str(tmp_path / "encoder")}},
        seeds=[0, 1], asked=["true", "none"], labels=[2, "all"],
    )  # fmt: skip
    content = run_study(read_study(path), tmp_path / "out", lambda line: None)
    assert not content["cells"]["failed"] + content["cells"]["waiting"]
    rows = {(row["system"], row["labels"], row["asked"]): row for row in content["rows"]}
    assert set(rows) == {("tiny", n, "true") for n in (2, "all")} | {
        ("reading", n, text) for n in (2, "all") for text in ("true", "none")
    }
    assert all(row["seeds"] == [0, 1] for row in rows.values())
    for protocol in ("native", "published"):
        check_row(rows["tiny", 2, "true"], tmp_path, protocol)
    costs = rows["tiny", 2, "true"]["costs"]
    assert costs["parameters"] == 8 * 75 + 8 + 200 + 1
    assert costs["multiply_adds"] == 32 * 32 * (8 * 75 + 200)
    assert costs["multiply_adds_text"] == 0 < rows["reading", 2, "true"]["costs"]["multiply_adds_text"]
    check_difference(content, rows)
    for name in ("report.md", "report.html"):
        assert "Differences to tiny" in (tmp_path / "out" / name).read_text()
    assert "<polyline" in (tmp_path / "out" / "dice-labels.svg").read_text()


def check_row(row, tmp_path, protocol):
    """The row's numbers, recomputed from the masks with the engine's metrics."""
    scores = []
    for seed in (0, 1):
        for target in load_targets(tmp_path / "data", "train"):
            folder = tmp_path / "out" / "cells" / f"spots--tiny--2--true--{seed}" / "masks" / "true" / protocol
            mask = load_image(folder / target.mask.name, grey=True) > 0
            scores.append(score(target.image.name, "", mask, shown(target, protocol)[1]))
    for pool, expected in (("I", protocol_i(scores)), ("P", protocol_p(scores))):
        for name, value in expected.items():
            found = row["protocols"][protocol][f"{pool} {name}"]
            assert found["value"] == pytest.approx(value)
            assert found["low"] <= value <= found["high"]


def check_difference(content, rows):
    found = next(
        one for one in content["differences"]
        if (one["system"], one["labels"], one["asked"], one["protocol"]) == ("reading", "all", "none", "native")
        and one["of"] == "system"
    )  # fmt: skip
    values = [
        rows[key]["protocols"]["native"]["I dice"]["value"]
        for key in (("reading", "all", "none"), ("tiny", "all", "true"))
    ]
    assert found["I dice"]["value"] == pytest.approx(values[0] - values[1])


def test_a_killed_study_resumes_with_the_same_masks(study, in_this_process, tmp_path, monkeypatch):
    systems = {"tiny": {"kind": "study_systems:tiny"}, "slow": {"kind": "study_systems:tiny", "pause": 0.02}}
    path = study(systems=systems, budget={"steps": 60})
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    code = (
        "import sys; from fasttextdiff_lab.study import training; training.CHECKPOINT_SECONDS = 0.0\n"
        "from test_study import *\n"
        "import distributed\n"
        "@contextmanager\n"
        "def local(address, workers):\n"
        "    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False,\n"
        "                                  dashboard_address=None, silence_logs=50) as cluster:\n"
        "        yield cluster\n"
        "runner._scheduler = local\n"
        f"run_study(read_study(Path({str(path)!r})), Path({str(killed)!r}), lambda line: None)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, env={**os.environ, "PYTHONPATH": python_path()})
    checkpoint = killed / "checkpoints" / "spots--slow--2--true--0.pt"
    while not checkpoint.is_file():
        with pytest.raises(subprocess.TimeoutExpired):  # it is still running
            process.wait(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first = killed / "cells" / "spots--tiny--2--true--0" / "case.json"
    before = first.stat().st_mtime_ns
    assert not (killed / "cells" / "spots--slow--2--true--0" / "case.json").exists()
    content = run_study(read_study(path), killed, lambda line: None)
    run_study(read_study(path), whole, lambda line: None)
    assert first.stat().st_mtime_ns == before
    record = json.loads((killed / "cells" / "spots--slow--2--true--0" / "case.json").read_text())
    assert 0 < record["resumed_at"] < record["steps"] == 60
    assert masks_of(killed) == masks_of(whole)
    assert not content["cells"]["waiting"]
    assert not checkpoint.exists()


def python_path():
    return os.pathsep.join([str(HERE), str(HERE.parents[1] / "engine"), os.environ.get("PYTHONPATH", "")])


def test_a_failure_is_a_row_with_its_reason(study, tmp_path):
    pytest.importorskip("distributed")
    systems = {
        "dying": {"kind": "study_systems:dying"},
        "nan": {"kind": "study_systems:not_a_number"},
        "memory": {"kind": "study_systems:no_memory"},
        "tiny": {"kind": "study_systems:tiny"},
    }
    content = run_study(read_study(study(systems=systems)), tmp_path / "out", lambda line: None)
    reasons = {one["cell"].split("--")[1]: one["reason"] for one in content["cells"]["failed"]}
    assert [row["system"] for row in content["rows"]] == ["tiny"]
    assert "worker process died" in reasons["dying"]
    assert "NaN" in reasons["nan"]
    assert reasons["memory"].startswith("out of memory")
    assert len(reasons) == 3
    for name in ("report.md", "report.html"):
        assert all(why in (tmp_path / "out" / name).read_text().replace("\\", "") for why in ("NaN", "out of memory"))


def test_every_system_sees_the_same_images_and_fewer_labels_are_a_part_of_more(study):
    wanted = read_study(
        study(labels=[2, 4], systems={name: {"kind": "study_systems:tiny"} for name in ("tiny", "other")})
    )
    cells = wanted.cells({"tiny": False, "other": False})
    sets = {cell: training_set(wanted, cell) for cell in cells}
    drawn = {cell: Batches(found.labelled, 32, 2, cell.seed)(7) for cell, found in sets.items()}
    for cell in cells:
        same = next(other for other in cells if other.labels == cell.labels and other.system != cell.system)
        assert drawn[cell].texts == drawn[same].texts
        assert np.array_equal(drawn[cell].images, drawn[same].images)
    few, more = ({item.target.image for item in sets[cell].labelled} for cell in (cells[0], cells[2]))
    assert few < more
    assert len(more) == 4


BAD = [
    ({"systems": {"tiny": {"kind": "unett"}}}, ("unett", "unet")),
    ({"systems": {"tiny": {"kind": "study_systems:tiny", "depth": 3}}}, ("tiny", "depth")),
    ({"systems": {"tiny": {"kind": "study_systems:reading"}}}, ("tiny", "encoder")),
    ({"data": {"gone": {"folder": "nowhere"}}}, ("gone", "nowhere")),
    ({"seeds": [0, 1, 0]}, ("0 is listed twice", "seeds")),
    ({"asked": ["true", "shouted"]}, ("shouted", "paraphrase")),
    ({"budget": {"steps": 3, "seconds": 9}}, ("steps or seconds",)),
    ({"labels": [0]}, ("weak",)),
    ({"labels": [9]}, None),
    ({"reference": "best"}, ("best", "tiny")),
    ({"colour": "red"}, ("colour",)),
]


@pytest.mark.parametrize(
    ("values", "words"), BAD, ids=lambda value: next(iter(value)) if isinstance(value, dict) else ""
)
def test_a_wrong_study_is_refused_in_one_line(study, tmp_path, values, words, request):
    if words is None:  # known only when the data are read: a row with its reason
        request.getfixturevalue("in_this_process")
        content = run_study(read_study(study(**values)), tmp_path / "out", lambda line: None)
        assert "fewer than 9 labels" in content["cells"]["failed"][0]["reason"]
        return
    with pytest.raises(FastTextDiffError) as caught:
        run_study(read_study(study(**values)), tmp_path / "out", lambda line: None)
    one_line(caught, *words)


def test_the_folder_of_another_study_is_not_touched(study, in_this_process, tmp_path):
    out = tmp_path / "out"
    run_study(read_study(study()), out, lambda line: None)
    before = masks_of(out)
    for values, word in (({"title": "Other"}, "Small"), ({"size": 64}, "size")):
        with pytest.raises(UsageError) as caught:
            run_study(read_study(study(**values)), out, lambda line: None)
        one_line(caught, str(out), word, "another output folder")
    assert masks_of(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError) as caught:
        run_study(read_study(study()), tmp_path / "mine", lambda line: None)
    one_line(caught, "is not empty")


def test_the_examples_of_the_documentation_work(study, in_this_process, tmp_path, monkeypatch):
    text = (HERE.parents[1] / "docs" / "study.md").read_text()
    example = re.search(r"```yaml\n(.*?)```", text, re.S)[1]
    code = re.search(r"```python\n(.*?)```", text, re.S)[1]
    picture_folder(tmp_path / "my_images")
    (tmp_path / "example.yaml").write_text(example)
    assert check_systems(read_study(tmp_path / "example.yaml")) == {"unet": False, "textdiff": True}
    study("my_study")
    monkeypatch.chdir(tmp_path)
    result = {}
    exec(code, result)
    assert result["report"]["rows"][0]["images"] == 5
    assert (tmp_path / "RESULTS" / "report.html").is_file()

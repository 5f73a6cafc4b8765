"""Studies: a grid under equal conditions that survives failures and kills, and a report that follows from its masks."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from own_folders import picture_folder
from posix_only import on_posix
from tiny_models import one_line, save_text_encoder

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.evaluation.datasets import load_image, load_targets
from fasttextdiff.evaluation.metrics import protocol_i, protocol_p, score, shown
from fasttextdiff_lab.study import denoisers, numbers
from fasttextdiff_lab.study.definition import read_study
from fasttextdiff_lab.study.images import Batches, training_set
from fasttextdiff_lab.study.parts import keep_definition
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


def run_here(study, folder):
    """Run a study's cells in a thread of this process: starting others takes most of the time."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
    ) as cluster:
        return run_study(study, folder, lambda line: None, scheduler=cluster.scheduler_address)


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(numbers, "DRAWS", 100)


def masks_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("masks/**/*.png"))}


def test_a_grid_is_reported_from_its_masks(study, few_draws, tmp_path):
    save_text_encoder(tmp_path / "encoder")
    path = study(
        systems={
            "tiny": {"kind": "study_systems:tiny"},
            "reading": {"kind": "study_systems:reading", "encoder": "small"},
        },
        encoders={"small": {"name": str(tmp_path / "encoder")}},
        seeds=[0, 1], asked=["true", "none"], labels=[2, "all"],
    )  # fmt: skip
    content = run_here(read_study(path), tmp_path / "out")
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


@on_posix
def test_a_killed_study_resumes_with_the_same_masks(study, few_draws, tmp_path, monkeypatch):
    systems = {"tiny": {"kind": "study_systems:tiny"}, "slow": {"kind": "study_systems:tiny", "pause": 0.02}}
    path = study(systems=systems, budget={"steps": 60})
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    code = (
        "import sys; from fasttextdiff_lab.study import training; training.CHECKPOINT_SECONDS = 0.0\n"
        "from test_study import *\n"
        f"run_here(read_study(Path({str(path)!r})), Path({str(killed)!r}))\n"
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
    content = run_here(read_study(path), killed)
    run_here(read_study(path), whole)
    assert first.stat().st_mtime_ns == before
    record = json.loads((killed / "cells" / "spots--slow--2--true--0" / "case.json").read_text())
    assert 0 < record["resumed_at"] < record["steps"] == 60
    assert masks_of(killed) == masks_of(whole)
    assert not content["cells"]["waiting"]
    assert not checkpoint.exists()


def python_path():
    return os.pathsep.join([str(HERE), str(HERE.parents[1] / "engine"), os.environ.get("PYTHONPATH", "")])


@on_posix
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
def test_a_wrong_study_is_refused_in_one_line(study, few_draws, tmp_path, values, words):
    if words is None:  # known only when the data are read: a row with its reason
        content = run_here(read_study(study(**values)), tmp_path / "out")
        assert "fewer than 9 labels" in content["cells"]["failed"][0]["reason"]
        return
    with pytest.raises(FastTextDiffError) as caught:
        run_study(read_study(study(**values)), tmp_path / "out", lambda line: None)
    one_line(caught, *words)


def test_the_folder_of_another_study_is_not_touched(study, few_draws, tmp_path):
    out = tmp_path / "out"
    run_here(read_study(study()), out)
    before = masks_of(out)
    for values, word in (({"title": "Other"}, "Small"), ({"size": 64}, "size")):
        with pytest.raises(UsageError) as caught:
            run_here(read_study(study(**values)), out)
        one_line(caught, str(out), word, "another output folder")
    assert masks_of(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError) as caught:
        run_here(read_study(study()), tmp_path / "mine")
    one_line(caught, "is not empty")


def test_a_part_that_was_trained_in_another_way_is_not_used(study, few_draws, tmp_path):
    (tmp_path / "text.txt").write_text("a nodule\n" * 9)

    def wanted(**values):
        return read_study(study(encoders={"own": {"corpus": "text.txt", "steps": 2, **values}}))

    out = tmp_path / "out"
    run_here(wanted(), out)  # no system needs the encoder, so it is not trained
    place = out / "encoders" / "own"
    keep_definition(place, wanted().encoders["own"])
    run_here(wanted(), out)
    with pytest.raises(UsageError) as caught:
        run_here(wanted(steps=3), out)
    one_line(caught, str(place), "steps 2, not with 3", "another output folder")
    (place / "definition.json").rename(place / "pretraining.json")
    with pytest.raises(UsageError) as caught:
        run_here(wanted(), out)
    one_line(caught, str(place), "unknown")


def test_a_denoiser_learns_from_no_picture_that_is_evaluated(study, tmp_path, monkeypatch):
    images = tmp_path / "data" / "Train_Folder" / "img"
    rows = [f"img/case{n}.png,{'train' if n > 1 else 'val'}" for n in range(4)]
    (tmp_path / "targets.csv").write_text("\n".join(["Image,Split", *rows]))
    (tmp_path / "without.txt").write_text("case3.png\n")

    def wanted(test="none", **values):
        spec = {"images": str(images), "steps": 7, **values}
        return read_study(study(data={"spots": {"folder": "data", "test": test}}, denoisers={"own": spec}))

    only = wanted(table="targets.csv", exclude="without.txt")
    assert [path.name for path in denoisers.pictures_of(only.denoisers["own"])] == ["case2.png"]
    runs = []
    monkeypatch.setattr(denoisers, "pretrain_denoiser", lambda run, _report: runs.append(run))
    denoisers.train_denoiser(only, "own", tmp_path / "out", 1)
    assert [path.name for path in runs[0].files] == ["case2.png"]
    with pytest.raises(UsageError, match="exclude"):
        denoisers.train_denoiser(wanted(table="targets.csv"), "own", tmp_path / "out", 1)
    with pytest.raises(UsageError) as caught:
        run_study(wanted("train"), tmp_path / "new", lambda line: None)
    one_line(caught, "'own' learns from 5 pictures that are evaluated", "case0.png", "'table' or 'exclude'")

    (tmp_path / "data" / "exclude_from_training.txt").write_text("case4.png\n")  # a copy of an evaluated picture
    (tmp_path / "data" / "Val_Folder").mkdir()
    monkeypatch.setattr(denoisers, "test_targets", lambda data: ())
    with pytest.raises(UsageError, match=r"learns from 1 pictures .* copies of those, e\.g\. case4\.png"):
        denoisers.require_unseen(wanted())
    denoisers.require_unseen(wanted(exclude=str(tmp_path / "data" / "exclude_from_training.txt")))


def test_no_denoiser_of_our_studies_has_seen_what_they_evaluate(shared):
    paths = sorted((Path(numbers.__file__).parents[1] / "configs" / "study").glob("*_two_cores.yaml"))
    assert len(paths) > 5
    for path in paths:
        denoisers.require_unseen(read_study(path))


def row(system, text, asked, truth, reads_text=True):
    found = [score(name, "", np.eye(4) > 0, truth) for name in "ab"]
    return numbers.Row(numbers.Key("d", 5, text, system, asked), [0], [{"reads_text": reads_text}], {"native": [found]})


def test_a_difference_is_never_taken_to_another_text_of_the_reference(monkeypatch):
    monkeypatch.setattr(numbers, "DRAWS", 10)
    same, other = np.eye(4) > 0, np.eye(4) < 1
    rows = [
        row("reference", "true", "true", same),
        row("mine", "true", "true", same),
        row("mine", "none", "none", other),
    ]
    taken = [(one["text"], one["minus"]["text"]) for one in numbers.differences(rows, "reference")]
    assert taken == [("true", "true")]  # the reference failed for "none"
    rows[0] = row("reference", "true", "true", same, reads_text=False)
    assert len(list(numbers.differences(rows, "reference"))) == 2


def test_the_examples_of_the_documentation_work(study, few_draws, tmp_path, monkeypatch):
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

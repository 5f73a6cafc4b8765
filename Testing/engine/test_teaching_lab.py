"""The teaching studies: where strokes are drawn, what is counted, and that patients are never on both sides."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import tiny_pipeline

from fasttextdiff.image.volume import Modality
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab import proposal_study, stroke_study, teaching_study
from fasttextdiff_lab.teaching_tasks import Case, Pool, draw, pools

TRUTH = np.zeros((40, 48), bool)
TRUTH[5:15, 10:40] = True


def case(name, patient="p", seed=0):
    rng = np.random.default_rng(seed)
    pixels = np.clip(rng.normal(60, 8, TRUTH.shape) + 90 * TRUTH, 0, 255).astype(np.uint8)
    return Case("bar", name, patient, "bright bar", pixels, TRUTH, Modality.MR)


def test_a_stroke_lies_in_the_largest_error_along_it():
    mask = TRUTH.copy()
    mask[30:34, 30:34] = True
    mark, present = stroke_study.stroke(mask, TRUTH)
    assert not present
    assert mark[30:34, 30:34].any()
    assert not (mark & (mask == TRUTH)).any()
    mark, present = stroke_study.stroke(np.zeros_like(TRUTH), TRUTH)
    assert present
    assert np.ptp(np.nonzero(mark)[1]) > np.ptp(np.nonzero(mark)[0])


def test_the_baseline_separates_what_edges_separate():
    one = case("a")
    course = stroke_study.course(one, "nearest", stroke_study.NearestStroke(one.pixels.astype(np.float32) / 255))
    assert course.dice[0] == pytest.approx(0, abs=1e-6)
    assert course.after(10) > 0.9
    assert len(course.seconds) == len(course.dice) - 1


def test_a_course_is_summarised():
    courses = [stroke_study.Course("t", str(n), "m", (0.5, 0.7 + 0.1 * n, 0.9), (0.1, 0.1)) for n in range(3)]
    (row,) = stroke_study.rows(courses)
    assert row.dice[1][0] == pytest.approx(0.8)
    assert row.dice[10][0] == pytest.approx(0.9)
    assert (row.n, row.to_good, row.reached) == (3, 2, 1)
    assert "0.800" in stroke_study.page([row], "command", "model", ["t"])


@pytest.fixture
def segmenter():
    pipeline = tiny_pipeline()
    pipeline.info = replace(pipeline.info, weights_sha256="0123456789abcdef")
    return Segmenter(pipeline, "cpu")


def of_another_model(segmenter):
    other = tiny_pipeline(1)
    other.info = replace(segmenter.pipeline.info, weights_sha256="fedcba9876543210")
    return Segmenter(other, "cpu")


def test_a_study_resumes_and_reports_every_cell(segmenter, tmp_path):
    pool = Pool("bar", "bright bar", [case(f"{n}", f"p{n}", n) for n in range(2)], [case("t", "q", 9)])
    study = teaching_study.TeachingStudy(segmenter, tmp_path / "cells.json", 24)
    first = list(study.run(pool, ["adapter"], [1, 20, 100], 1))
    assert [(c.method, c.slices, c.used) for c in first] == [("model", 0, 0), ("adapter", 1, 1), ("adapter", 20, 2)]
    assert first[1].dice[0] > 0.8
    with (tmp_path / "cells.json").open("a") as file:
        file.write('{"task": "cut off by a cr')
    again = teaching_study.TeachingStudy(segmenter, tmp_path / "cells.json", 24)
    assert list(again.run(pool, ["adapter"], [1, 20, 100], 1)) == []
    assert "| bar | adapter | 20 (2) | 1 | 1 |" in teaching_study.page(again.cells, "command", "tiny", [])
    assert len(json.loads((tmp_path / "cells.json").read_text().splitlines()[1])["dice"]) == 1


def test_results_of_another_model_or_number_of_images_are_not_resumed(segmenter, tmp_path):
    pool, file = Pool("bar", "bright bar", [case("0")], [case("t", "q", 9)]), tmp_path / "cells.json"
    other = of_another_model(segmenter)
    for one, tests in ((segmenter, 24), (other, 24), (segmenter, 12)):
        study = teaching_study.TeachingStudy(one, file, tests)
        assert len(list(study.run(pool, [], [], 1))) == 1
        assert len(study.cells) == 1
    assert (
        teaching_study.TeachingStudy(segmenter, file, 24).cells[0].dice
        != teaching_study.TeachingStudy(other, file, 24).cells[0].dice
    )

    strokes, cases = tmp_path / "strokes.json", [case("a"), case("b", seed=1)]
    mine = stroke_study.resumed(strokes, segmenter, cases)
    its = stroke_study.resumed(strokes, other, cases)
    lines = len(strokes.read_text().splitlines())
    assert lines == len(mine) + len(its)
    assert mine[0].dice[0] != its[0].dice[0]
    (first, _) = stroke_study.resumed(strokes, segmenter, cases[:1])
    assert list(first.dice) == list(mine[0].dice)
    assert len(strokes.read_text().splitlines()) == lines


def test_examples_are_of_as_many_patients_as_possible():
    pool = Pool("bar", "bright bar", [case(f"{n}", f"p{n // 3}") for n in range(9)], [])
    for seed in range(3):
        assert len({one.patient for one in draw(pool, 3, seed)}) == 3
        assert len({one.image for one in draw(pool, 9, seed)}) == 9


def test_no_patient_is_taught_and_tested(shared):
    for pool in pools(shared / "data"):
        assert not {one.patient for one in pool.teach} & {one.patient for one in pool.test}


def test_the_slices_with_most_errors_are_the_best_to_correct():
    truth = np.zeros((12, 20, 20), bool)
    truth[:, 5:15, 5:15] = True
    probability = np.where(truth, 0.9, 0.1).astype(np.float32)
    probability[4] = 0.1
    (one, *_) = proposal_study.compare("v", probability, truth)
    assert one.proposed == one.best == 1
    assert one.before < one.random < 1

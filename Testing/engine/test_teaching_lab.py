"""The teaching studies: where strokes are drawn, what is counted, and that patients are never on both sides."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import tiny_pipeline

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import BUNDLED_MODEL, read_info
from fasttextdiff.result import FindingResult
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching.in_use import LearnedFindings
from fasttextdiff_lab import proposal_study, review_study, stroke_study, teaching_study
from fasttextdiff_lab.atlas import ct_mr_items
from fasttextdiff_lab.teaching_tasks import LEFT_OUT, Case, Pool, draw, pools

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
    study = teaching_study.TeachingStudy(segmenter, tmp_path / "cells.json")
    first = list(study.run(pool, ["adapter"], [1, 20, 100], 1))
    assert [(c.method, c.slices, c.used) for c in first] == [("model", 0, 0), ("adapter", 1, 1), ("adapter", 20, 2)]
    assert first[1].dice[0] > 0.8
    assert [(c.images, c.patients) for c in first] == [(["t"], ["q"])] * 3
    with (tmp_path / "cells.json").open("a") as file:
        file.write('{"task": "cut off by a cr')
    again = teaching_study.TeachingStudy(segmenter, tmp_path / "cells.json")
    assert list(again.run(pool, ["adapter"], [1, 20, 100], 1)) == []
    assert "| bar | adapter | 20 (2) | 1 | 1 | 1 |" in teaching_study.page(again.cells, "command", "tiny")
    assert len(json.loads((tmp_path / "cells.json").read_text().splitlines()[1])["dice"]) == 1


def test_every_method_learns_from_the_same_slices(segmenter, tmp_path, monkeypatch):
    pool = Pool("bar", "bright bar", [case(f"{n}", f"p{n}", n) for n in range(6)])
    asked = []
    for name in ("learn", "tune_head", "train_unet"):
        real = getattr(teaching_study, name)

        def seen(*arguments, real=real, **options):
            (shown,) = (one for one in arguments if isinstance(one, list))
            asked.append(sorted(one.mask.tobytes() + np.asarray(one.group).tobytes() for one in shown))
            return (
                (lambda lesson: np.zeros(lesson.mask.shape))
                if real.__name__ != "learn"
                else real(*arguments, **options)
            )

        seen.__name__ = name
        monkeypatch.setattr(teaching_study, name, seen)
    cells = list(teaching_study.TeachingStudy(segmenter, tmp_path / "c.json").run(pool, teaching_study.METHODS, [2], 1))
    assert [cell.method for cell in cells] == ["model", *teaching_study.METHODS]
    assert len(asked) == 4
    assert asked[1:] == asked[:-1]
    assert len({tuple(cell.images) for cell in cells}) == 1


def test_the_report_counts_what_is_forgotten(segmenter, tmp_path, monkeypatch):
    segmenter.info.taught["mr"] = (TaughtFinding("dark ring"), TaughtFinding("grey disc"))
    pool = Pool("bar", "bright bar", [case("a")], [case("t", "q", 9)])
    (_, cell) = teaching_study.TeachingStudy(segmenter, tmp_path / "c.json").run(pool, ["adapter"], [1], 1)
    assert (cell.known, cell.forgotten) == (2, 0)
    assert "2 answers" in teaching_study.page([cell], "command", "tiny")

    def spoilt(self, answers, *_arguments):
        return (answers[0] + (self._adapters is not None), answers[1])

    monkeypatch.setattr(LearnedFindings, "answer", spoilt)
    (_, cell) = teaching_study.TeachingStudy(segmenter, tmp_path / "d.json").run(pool, ["adapter"], [1], 1)
    assert (cell.known, cell.forgotten) == (2, 2)


def test_the_report_says_how_near_the_goals_are():
    def cell(method, slices, *dice):
        images = [f"{n}" for n in range(len(dice))]
        return teaching_study.Cell("bar", method, slices, 0, slices, 1.0, 2, images, images, dice)

    cells = [cell("adapter", 5, 0.4, 0.5), cell("adapter", 100, 0.5, 0.5), cell("U-Net from scratch", 5, 0.1, 0.2)]
    assert "| bar | 90% | +0.300 |" in teaching_study.page(cells, "command", "tiny")
    assert "| bar | - | - |" in teaching_study.page(cells[2:], "command", "tiny")
    assert "with 2 threads of the CPU" in teaching_study.page(cells, "command", "tiny")


def test_results_of_another_model_are_not_resumed(segmenter, tmp_path):
    pool, file = Pool("bar", "bright bar", [case("0")], [case("t", "q", 9)]), tmp_path / "cells.json"
    other = of_another_model(segmenter)
    for one in (segmenter, other):
        study = teaching_study.TeachingStudy(one, file)
        assert len(list(study.run(pool, [], [], 1))) == 1
        assert len(study.cells) == 1
    assert (
        teaching_study.TeachingStudy(segmenter, file).cells[0].dice
        != teaching_study.TeachingStudy(other, file).cells[0].dice
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
    cases = [case(f"{n}", f"p{n // 3}") for n in range(9)]
    for seed in range(3):
        assert len({one.patient for one in draw(cases, 3, seed)}) == 3
        assert len({one.image for one in draw(cases, 9, seed)}) == 9


def test_a_pool_without_tests_is_split_by_patient_anew_with_each_seed():
    pool = Pool("bar", "bright bar", [case(f"{n}", f"p{n // 2}") for n in range(14)])
    sides = [pool.split(seed) for seed in range(6)]
    for teach, test in sides:
        assert (len(teach), len(test)) == (8, 6)
        assert not {one.patient for one in teach} & {one.patient for one in test}
    assert len({tuple(one.image for one in test) for _, test in sides}) > 1
    assert {one.image for _, test in sides for one in test} == {f"{n}" for n in range(14)}


def test_no_patient_is_taught_and_tested_and_no_task_was_trained(shared):
    asked = {row["Structure"] for item in ct_mr_items(shared / "data" / "ct_mr_atlas") for row in item.rows}
    assert not asked & set(LEFT_OUT)
    found = list(pools(shared / "data", shared / "samples"))
    assert [(pool.task, len(pool.teach), len(pool.test)) for pool in found] == [
        ("spleen", 50, 14),
        ("spinal canal", 13, 0),
        ("perihaematomal oedema", 15, 0),
        ("brightfield nuclei", 16, 0),
    ]
    bundled = read_info(BUNDLED_MODEL)
    for pool in found:
        assert bundled.untaught(pool.finding, pool.modality)
        for seed in range(5):
            teach, test = pool.split(seed)
            assert not {one.patient for one in teach} & {one.patient for one in test}
            assert all(one.truth.any() for one in (*teach, *test))


def test_the_slices_with_most_errors_are_the_best_to_correct():
    truth = np.zeros((12, 20, 20), bool)
    truth[:, 5:15, 5:15] = True
    probability = np.where(truth, 0.9, 0.1).astype(np.float32)
    probability[4] = 0.1
    (one, *_) = proposal_study.compare("v", probability, truth)
    assert one.proposed == one.best == 1
    assert one.before < one.random < 1
    (drawn, *_) = proposal_study.compare("v", probability, truth, taught=[4])
    assert drawn.before == 1  # the only wrong slice is one that the user drew


def test_an_error_that_the_model_doubts_is_found_sooner_by_the_review_list_than_by_scrolling():
    truth = np.zeros((12, 20, 20), bool)
    truth[4:10, 5:15, 5:15] = True
    probability = np.where(truth, 0.98, 0.001).astype(np.float32)
    probability[7, 5:15, 5:15] = 0.4  # a gap, and nothing else is wrong
    found = FindingResult("bar", probability, probability > 0.5, None, np.ones(12, np.float32))
    looked = {each.looks: each for each in review_study.looked("v", found, truth)}
    assert sorted(looked) == [1, 2, 3, 5, 10]
    first = looked[1]
    assert (first.review, first.scrolling, first.marked, first.best) == (1, 0, 0, 1)
    assert first.dice == 1000 / 1100
    assert first.random == 1 / 12
    assert (looked[5].review, looked[5].scrolling, looked[5].marked) == (1, 0, 0)
    assert (looked[10].scrolling, looked[10].marked) == (1, 1)
    page = review_study.page(list(looked.values()), "COMMAND", "m")
    assert "| 1 | 1 | 100% | 0% | 0% | 8% | 100% | 1 of 1 |" in page
    assert "| v | bar | 0.909 | 12 | 100% | 0% | 0% | 42% | 100% |" in page

"""Reports as users make and read them: complete or not at all, equal content in three formats, correct numbers."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image
from tiny_models import one_line, tiny_pipeline

from fasttextdiff import cli
from fasttextdiff.errors import UsageError
from fasttextdiff.evaluation.caption_baseline import fit_baseline, score_baseline
from fasttextdiff.evaluation.datasets import Target, load_targets
from fasttextdiff.evaluation.metrics import evaluate, protocol_i, protocol_p
from fasttextdiff.evaluation.report_measure import measure, report_texts
from fasttextdiff.evaluation.report_pictures import MASK_COLOR, TRUTH_COLOR, case_picture, reliability_svg
from fasttextdiff.evaluation.side_control import WORDINGS
from fasttextdiff.image.volume import Modality
from fasttextdiff.render.blocks import Heading, Paragraph, Picture, Table, to_html, to_markdown
from fasttextdiff.segmenter import Segmenter

LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."
RIGHT = "Unilateral pulmonary infection, one infected area, upper right lung."


def split(folder, name, texts, lesions):
    """X-rays in LViT's layout; each text describes the lesion (row, column slices) with the image's sides."""
    place = folder / f"{name}_Folder"
    for kind in ("img", "labelcol"):
        (place / kind).mkdir(parents=True)
    book = Workbook()
    book.active.append(["Image", "Description"])
    rng = np.random.default_rng(len(texts))
    for n, (text, lesion) in enumerate(zip(texts, lesions, strict=True)):
        truth = np.zeros((48, 64), np.uint8)
        truth[lesion] = 255
        pixels = rng.integers(0, 120, truth.shape) + truth // 3
        Image.fromarray(pixels.astype(np.uint8)).save(place / "img" / f"{n}.png")
        Image.fromarray(truth).save(place / "labelcol" / f"mask_{n}.png")
        book.active.append([f"mask_{n}.png", text])
    book.save(place / f"{name}_text.xlsx")
    description = {"modality": "xray", "mask_name": "mask_{stem}.png", "laterality": "patient"}
    (folder / "dataset.json").write_text(json.dumps(description))


ON_LEFT, ON_RIGHT = np.s_[28:44, 40:58], np.s_[6:20, 6:26]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xrays")
    split(folder, "Train", [LEFT, LEFT, RIGHT], [ON_LEFT, ON_LEFT, ON_RIGHT])
    split(folder, "Val", [LEFT, RIGHT, LEFT], [ON_LEFT, ON_RIGHT, ON_LEFT])
    return folder


@pytest.fixture
def run(capsys, model, monkeypatch):
    def call(*arguments):
        words = ["fasttextdiff", "evaluate", *map(str, arguments), "--model", str(model), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return call


class Reader(HTMLParser):
    """Collects words and picture files of a page; every tag must be closed."""

    def __init__(self, text):
        super().__init__()
        self.words, self.files, self.tags, self.open = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.files.append(dict(attributes)["src"])
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data.split()


def test_a_report_has_equal_content_in_three_formats_and_all_its_pictures(run, dataset, model, tmp_path):
    folder = tmp_path / "report"
    code, out, err = run(dataset, "--report", folder, "--samples", 2, "--threshold", 0.45)
    assert (code, "report.html" in out) == (0, True), err
    content = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    html = Reader((folder / "report.html").read_text())
    markdown = (folder / "report.md").read_text()
    assert not {"script", "link", "iframe"} & set(html.tags)
    assert set(html.files) == set(re.findall(r"\]\(([^)]+)\)", markdown))
    assert {*html.files, "report.json", "report.md", "report.html"} == {path.name for path in folder.iterdir()}
    numbers = re.findall(r"[-+]?\d+\.\d{3}", markdown)
    assert set(numbers) == set(re.findall(r"[-+]?\d+\.\d{3}", " ".join(html.words)))
    assert f"{content['protocols']['native']['P']['dice']['value']:.3f}" in numbers
    run_words = content["run"]
    assert (run_words["model"], run_words["split"], run_words["threshold"]) == ("tiny", "val", 0.45)
    assert f"--report {folder}" in run_words["command"]
    assert [len(content["pictures"][name]) for name in ("worst", "best")] == [2, 1]
    for file in html.files:
        if file.endswith(".svg"):
            ElementTree.parse(folder / file)
        else:
            with Image.open(folder / file) as picture:
                assert picture.size == (2 * 320 + 4, 240)
    assert [path for path in tmp_path.iterdir() if path != folder] == []


def test_the_scores_equal_those_of_evaluating_each_text_alone(dataset, model):
    from fasttextdiff.evaluation.report_numbers import report_numbers

    targets = load_targets(dataset, "val")
    texts = report_texts(targets)
    segmenter = Segmenter(tiny_pipeline(), device="cpu")
    measured = measure(segmenter, targets, texts, samples=3, threshold=0.4)
    # 3 noises and the small picture of the published protocol: no image is encoded more often
    assert segmenter.cache.misses == 4 * len(targets)
    baseline = fit_baseline(load_targets(dataset, "train"))
    numbers = report_numbers(measured, (baseline, score_baseline(baseline, targets)))
    for mode, asked in texts.items():
        alone = list(evaluate(segmenter, targets, texts=asked, threshold=0.4))
        found = numbers["texts"][mode]
        assert found["dice_i"]["value"] == pytest.approx(protocol_i(alone)["dice"], abs=1e-3)
        assert found["dice_p"]["value"] == pytest.approx(protocol_p(alone)["dice"], abs=1e-3)
        assert found["dice_i"]["low"] <= found["dice_i"]["value"] <= found["dice_i"]["high"]
    assert numbers["texts"]["true"]["difference_i"] == {"value": 0, "low": 0, "high": 0}
    assert numbers["texts"]["none"]["n_changed"] == 3
    published = list(evaluate(segmenter, targets, texts=texts["true"], protocol="published", threshold=0.4))
    assert numbers["protocols"]["published"]["I"]["iou"]["value"] == pytest.approx(
        protocol_i(published)["iou"], abs=1e-3
    )
    # lesions are where the captions say, so no image needs checking
    assert numbers["caption_baseline"]["dice_i"]["value"] == pytest.approx(1, abs=0.03)
    assert numbers["caption_baseline"]["n_unknown"] == 0
    assert numbers["findings"] == {}
    assert numbers["calibration"]["pixels"]["n"] == 3 * 48 * 64
    assert (numbers["sides"]["n_there"], numbers["sides"]["n_absent"]) == (3, 3)
    assert {answer.text for answer in measured.answers} <= {
        w.format(side=s) for w in WORDINGS for s in ("left", "right")
    }


def test_restricted_images_are_excluded_and_a_set_of_findings_has_no_sides(run, tmp_path):
    val = tmp_path / "set" / "val"
    (val / "img").mkdir(parents=True)
    rows = ["Image,Mask,PromptAnatomical"]
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8)
    for finding in ("heart", "consolidation"):
        (val / finding).mkdir()
        Image.fromarray((pixels > 128).astype(np.uint8) * 255).save(val / finding / "a.png")
        rows.append(f"a.png,{finding}/a.png,{finding}")
    Image.fromarray(pixels).save(val / "img" / "a.png")
    (val / "targets.csv").write_text("\n".join(rows) + "\n")
    folder = tmp_path / "report"
    code, _, err = run(tmp_path / "set", "--report", folder, "--samples", 2, "--no-pictures")
    assert code == 0, err
    assert not list(folder.glob("*.jpg"))
    content = json.loads((folder / "report.json").read_text())
    assert content["sides"] is None
    assert content["caption_baseline"] is None
    assert (content["n"], content["n_images"]) == (2, 1)
    assert {finding: found["n"] for finding, found in content["findings"].items()} == {"heart": 1, "consolidation": 1}
    # masks of one image are resampled together, so one image gives no interval
    assert content["texts"]["true"]["dice_i"]["low"] == content["texts"]["true"]["dice_i"]["high"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--text", "none"], ["--report", "--text"]),
        (["--json", "x.json"], ["--report", "--json"]),
        (["--split", "nowhere"], ["nowhere"]),
    ],
)
def test_options_that_do_not_apply_to_a_report_are_refused(run, dataset, tmp_path, options, words):
    code, _, err = run(dataset, "--report", tmp_path / "report", *options)
    assert code == 2
    assert all(word in err for word in words)
    assert list(tmp_path.iterdir()) == []


def test_a_non_empty_folder_is_never_written_to_and_report_options_need_a_report(run, dataset, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    code, _, err = run(dataset, "--report", tmp_path)
    assert (code, err.count("\n"), "not empty" in err) == (2, 1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    code, _, err = run(dataset, "--no-pictures")
    assert (code, "--report" in err) == (2, True)


def test_an_unreadable_image_stops_the_report_and_is_named(run, tmp_path):
    split(tmp_path / "set", "Val", [LEFT, RIGHT], [ON_LEFT, ON_RIGHT])
    broken = tmp_path / "set" / "Val_Folder" / "img" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60])
    code, _, err = run(tmp_path / "set", "--report", tmp_path / "report", "--samples", 2)
    assert (code, err.count("\n")) == (1, 1)
    assert str(broken) in err
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_report_interrupted_while_writing_leaves_nothing(run, dataset, tmp_path, monkeypatch):
    def interrupted(_):
        assert len([path for folder in tmp_path.iterdir() for path in folder.glob("worst-*.jpg")]) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr("fasttextdiff.evaluation.report.to_html", interrupted)
    code, _, err = run(dataset, "--report", tmp_path / "report", "--samples", 2, "--every", 2)
    assert (code, "stopped" in err) == (130, True)
    assert list(tmp_path.iterdir()) == []


def test_a_report_compares_noise_samples():
    with pytest.raises(UsageError) as caught:
        measure(None, [], {"true": []}, samples=1)
    one_line(caught, "at least 2")


def mask_target(folder, name, truth, text):
    path = folder / f"{name}.png"
    Image.fromarray(truth.astype(np.uint8) * 255).save(path)
    return Target(path, path, text, Modality.XRAY)


def test_the_mean_mask_uses_the_best_training_threshold_and_unknown_captions_the_overall_mean(tmp_path):
    """Three of four masks fill the left half, one everything: a level below .25 gives everything, above it half."""
    half = np.zeros((32, 64), bool)
    half[:, :32] = True
    training = [mask_target(tmp_path, n, half if n < 3 else ~np.zeros_like(half), "x") for n in range(4)]
    baseline = fit_baseline(training)
    assert 0.25 <= baseline.level <= 0.95
    assert np.array_equal(baseline.mask("x", (32, 64)), half)
    assert np.array_equal(baseline.mask("never seen", (16, 8)), half[::2, ::8])
    full, hit = score_baseline(baseline, [training[3], training[0]])
    assert (full.dice, hit.dice) == pytest.approx((2 / 3, 1), abs=1e-5)


def test_a_page_is_equal_in_both_languages_and_escapes_special_characters():
    blocks = [
        Heading(1, "A & B"),
        Paragraph("a_b * <c> | #d"),
        Table(("x", "y"), [("1 | 2", "<b>")]),
        Picture("p.svg", "a [b]"),
    ]
    assert to_markdown(blocks) == (
        "# A & B\n\na\\_b \\* \\<c\\> \\| \\#d\n\n| x | y |\n| --- | --- |\n| 1 \\| 2 | \\<b\\> |\n\n"
        "![a \\[b\\]](p.svg)\n\na \\[b\\]\n"
    )
    page = Reader(to_html(blocks))
    assert " ".join(page.words).endswith("A & B a_b * <c> | #d x y 1 | 2 <b> a [b]")
    assert page.files == ["p.svg"]


def test_a_case_shows_the_image_alone_and_then_both_outlines():
    truth, mask = np.zeros((2, 32, 32), bool)
    truth[4:14, 4:14] = True
    mask[18:28, 18:28] = True
    picture = np.asarray(case_picture(np.full((32, 32), 90, np.uint8), truth, mask))
    assert picture.shape == (320, 644, 3)
    assert (picture[:, :320] == 90).all()
    right = picture[:, 324:]
    assert tuple(right[41, 90]) == TRUTH_COLOR
    assert tuple(right[181, 230]) == MASK_COLOR
    assert (right[90, 90] == 90).all()


def test_a_curve_is_drawn_at_its_values():
    bins = [{"predicted": 0.0, "observed": 0.0}, {"predicted": 1.0, "observed": 0.5}]
    drawing = ElementTree.fromstring(reliability_svg({"a < b": bins}, "across", "up"))
    name = "{http://www.w3.org/2000/svg}"
    frame = drawing.findall(f"{name}rect")[1].attrib
    left, top, side = (float(frame[key]) for key in ("x", "y", "width"))
    (line,) = drawing.findall(f"{name}polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points == [(left, top + side), (left + side, top + side / 2)]
    assert "a < b" in [text.text for text in drawing.findall(f"{name}text")]

"""Teaching through the worker's messages: strokes, learning, the library; what was not asked for keeps its bits."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from fasttextdiff.contract import messages, teaching
from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.requests import CloseVolume, Open, OpenVolume, Segment
from fasttextdiff.contract.words import WeighWords
from fasttextdiff.errors import Cancelled, FastTextDiffError
from fasttextdiff.worker.jobs import Jobs

SHAPE = (4, 40, 56)
WORDS = ("bright disc", ("blob",))


def yes(done, total):
    return True


class User:
    """A user of the worker with one volume: a bright disc on slices 0 to 2, nothing on slice 3."""

    def __init__(self, folder, model):
        self.folder, self.jobs, self.count = folder, Jobs(), 0
        rng = np.random.default_rng(0)
        self.discs = np.zeros(SHAPE, bool)
        for k in range(3):
            centre = rng.uniform(12, 28), rng.uniform(12, 44)
            self.discs[k] = np.hypot(*(np.indices(SHAPE[1:]) - np.reshape(centre, (2, 1, 1)))) < 8
        voxels = np.clip(rng.normal(60, 8, SHAPE) + 90 * self.discs, 0, 255).astype(np.uint8)
        self.do(Open(str(model), "cpu", "torch"))
        matrix = np.diag([-1.0, -1.0, 4.0, 1.0]).ravel().tolist()
        self.voxels = self.file(voxels)
        self.do(OpenVolume("v", self.voxels, tuple(matrix), modality="mr"))

    def do(self, request, progress=yes):
        """Carry out a request that went through JSON, like its answer."""
        asked = messages.request_of(messages.request_fields(1, request))
        return messages.event_of(messages.event_fields(1, self.jobs.do(asked, progress)), request)

    def new_folder(self):
        self.count += 1
        made = self.folder / f"{self.count}"
        made.mkdir()
        return made

    def file(self, array):
        path = self.new_folder() / "array.raw"
        np.ascontiguousarray(array).tofile(path)
        return ArrayFile(path, array.dtype.name, array.shape)

    def segment(self, *findings, **options):
        found = self.do(Segment("v", findings, self.new_folder(), try_anyway=True, **options)).findings
        return {one.finding: one for one in found}

    def stroke(self, row, first, last, present=True, k=1):
        mark = np.zeros((1, *SHAPE[1:]), np.uint8)
        mark[0, row, first:last] = 1
        return teaching.StrokeMark(self.file(mark), present)

    def correct(self, *strokes, k=1, **options):
        answer = self.do(teaching.Correct("v", "left lung", k, strokes, self.new_folder(), **options))
        return answer.findings[0]

    def collect(self, *slices, masks=None):
        masks = self.discs[list(slices)] if masks is None else masks
        request = teaching.AddExamples("v", slices, self.file(masks.astype(np.uint8)), "patient", True)
        return self.do(request)

    def learn(self, name="learned", words=WORDS, progress=yes, **options):
        finding, synonyms = words
        return self.do(teaching.Learn(finding, synonyms, self.folder / f"{name}.safetensors", **options), progress)


@pytest.fixture(scope="module")
def user(tmp_path_factory, model):
    return User(tmp_path_factory.mktemp("user"), model)


@pytest.fixture(scope="module")
def learned(user):
    user.collect(0, 1, 3)
    return user.learn()


@pytest.fixture
def library(user, learned, tmp_path):
    user.do(teaching.ImportLearned(tmp_path / "library", learned.file))
    return tmp_path / "library"


def mapped(array):
    return np.fromfile(array.file, array.dtype).reshape(array.shape)


def test_strokes_hold_and_an_undone_stroke_leaves_no_trace(user):
    own, strokes = user.correct(), [user.stroke(20, 10, 20), user.stroke(5, 5, 50, False)]
    one, both = user.correct(strokes[0]), user.correct(*strokes)
    assert mapped(both.mask)[0, 20, 10:20].all()
    assert not mapped(both.mask)[0, 5, 5:50].any()
    assert both.tags["FastTextDiff.CorrectedSlices"] == "1:2"
    assert both.tags["DICOM.SegmentAlgorithmType"] == "SEMIAUTOMATIC"
    for before, strokes_left in ((one, strokes[:1]), (own, [])):
        np.testing.assert_array_equal(mapped(user.correct(*strokes_left).probability), mapped(before.probability))
    assert "FastTextDiff.CorrectedSlices" not in own.tags
    alone = user.segment("left lung", slices=(1, 2))["left lung"]
    np.testing.assert_array_equal(mapped(own.mask), mapped(alone.mask))


@pytest.mark.parametrize(
    ("strokes", "message"),
    [
        ([(20, 10, 20, True), (20, 15, 18, False)], "3 pixels are marked as finding and as background"),
        ([(20, 10, 10, True)], "marks no pixel of the slice: draw inside the image"),
    ],
)
def test_strokes_that_cannot_be_are_refused(user, strokes, message):
    folders = user.count
    with pytest.raises(FastTextDiffError, match=message):
        user.correct(*(user.stroke(*each) for each in strokes))
    assert not list((user.folder / f"{folders + len(strokes) + 1}").iterdir())


def test_a_stroke_on_another_grid_is_refused(user):
    mark = teaching.StrokeMark(user.file(np.ones((1, 56, 40), np.uint8)), True)
    with pytest.raises(FastTextDiffError, match="grid of 1 x 56 x 40 pixels, the slice has 1 x 40 x 56"):
        user.correct(mark)


def test_strokes_of_another_image_with_the_same_name_are_forgotten(user):
    stroke, own = user.stroke(20, 10, 20), user.correct()
    user.correct(stroke)
    matrix = tuple(np.diag([-1.0, -1.0, 4.0, 1.0]).ravel().tolist())
    other = user.file(np.random.default_rng(7).integers(0, 255, SHAPE).astype(np.uint8))
    user.do(OpenVolume("v", other, matrix, modality="mr"))
    changed = user.correct(stroke)
    user.do(CloseVolume("v"))
    user.do(OpenVolume("v", other, matrix, modality="mr"))
    np.testing.assert_array_equal(mapped(user.correct(stroke).probability), mapped(changed.probability))
    user.do(OpenVolume("v", user.voxels, matrix, modality="mr"))
    np.testing.assert_array_equal(mapped(user.correct().probability), mapped(own.probability))


def test_a_stroke_that_runs_out_of_memory_leaves_no_trace(user, monkeypatch):
    strokes = [user.stroke(20, 10, 20), user.stroke(5, 5, 50, False)]
    both = user.correct(*strokes)
    user.correct(strokes[0])

    def full(*_arguments):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("fasttextdiff.teaching.strokes.from_input", full)
        with pytest.raises(MemoryError):
            user.correct(*strokes)
    np.testing.assert_array_equal(mapped(user.correct(*strokes).probability), mapped(both.probability))


def test_without_torch_learned_findings_rest_and_the_user_is_told(user, library, monkeypatch):
    missing = "torch: not installed"
    monkeypatch.setattr("fasttextdiff.worker.teaching.problem_with", lambda _wanted: missing)
    monkeypatch.setitem(sys.modules, "fasttextdiff.teaching.library", None)  # imports torch, so it cannot be imported
    answer = user.do(Segment("v", ("left lung", "blob"), user.new_folder(), try_anyway=True, library=library))
    assert f"learned findings are not used, because they need PyTorch ({missing})" in answer.notes
    assert [one.tags["FastTextDiff.Adapter"] for one in answer.findings] == ["", ""]
    for request in (teaching.ListLearned(library), teaching.RemoveLearned(library, "blob")):
        with pytest.raises(FastTextDiffError, match="learned findings need PyTorch"):
            user.do(request)
    assert user.do(teaching.ListLearned(library / "none")).findings == ()


def test_the_words_of_a_learned_finding_are_weighed_whatever_was_asked_before(user, library):
    def free(name):
        user.segment(name, library=library)
        request = WeighWords("v", "blob", 1, user.new_folder(), library=library)
        return mapped(user.do(request).text_free)

    np.testing.assert_array_equal(free("left lung"), free("blob"))


def test_a_learned_finding_answers_its_words_only_and_says_so(user, library):
    before = user.segment("left lung")["left lung"]
    after = user.segment("Blob", "left lung", library=library)
    assert list(after) == ["Blob", "left lung"]
    np.testing.assert_array_equal(mapped(after["left lung"].probability), mapped(before.probability))
    assert after["left lung"].tags["FastTextDiff.Adapter"] == ""
    assert after["Blob"].tags["FastTextDiff.Adapter"].startswith("bright disc from 3 slices, ")
    mask = mapped(after["Blob"].mask)
    assert 2 * (mask & user.discs).sum() / (mask.sum() + user.discs.sum()) > 0.6
    without = user.segment("Blob")["Blob"]
    assert without.tags["FastTextDiff.Adapter"] == ""


def test_a_candidate_is_tried_before_it_is_in_the_library(user, learned, tmp_path):
    tried = user.segment("blob", library=tmp_path / "none", candidate=learned.file, slices=(2, 3))["blob"]
    assert tried.tags["FastTextDiff.Adapter"].endswith(learned.digest)
    assert not (tmp_path / "none").exists()


def test_strokes_correct_what_was_learned(user, library):
    request = teaching.Correct("v", "blob", 2, (), user.new_folder(), library=library)
    own = user.do(request).findings[0]
    assert own.tags["FastTextDiff.Adapter"].startswith("bright disc")
    alone = user.segment("blob", library=library, slices=(2, 3))["blob"]
    np.testing.assert_array_equal(mapped(own.mask), mapped(alone.mask))


def test_the_library_is_managed(user, learned, library):
    def names(request):
        found = user.do(request).findings
        return [(one.finding, one.synonyms, one.versions, one.enabled) for one in found]

    assert names(teaching.ImportLearned(library, learned.file)) == [("bright disc", ("blob",), 2, True)]
    assert names(teaching.RollBackLearned(library, "blob")) == [("bright disc", ("blob",), 1, True)]
    assert names(teaching.SwitchLearned(library, "blob", False)) == [("bright disc", ("blob",), 1, False)]
    assert user.segment("blob", library=library)["blob"].tags["FastTextDiff.Adapter"] == ""
    assert names(teaching.RenameLearned(library, "blob", "ring", ())) == [("ring", (), 1, False)]
    exported = library.parent / "ring.safetensors"
    assert names(teaching.ExportLearned(library, "ring", exported)) == [("ring", (), 1, False)]
    assert names(teaching.RemoveLearned(library, "ring")) == []
    assert names(teaching.ImportLearned(library, exported)) == [("ring", (), 1, True)]


def foreign(user, learned, library):
    from fasttextdiff.teaching.adapter import Adapter

    adapter = Adapter.load(learned.file)
    card = dataclasses.replace(adapter.card, base_weights_sha256="0" * 16, base="other", finding="ring", synonyms=())
    dataclasses.replace(adapter, card=card).save(library.parent / "foreign.safetensors")
    return library.parent / "foreign.safetensors"


def damaged(user, learned, library):
    content = Path(learned.file).read_bytes()
    (library.parent / "damaged.safetensors").write_bytes(content[: len(content) // 2])
    return library.parent / "damaged.safetensors"


def other_finding_of_the_same_word(user, learned, library):
    user.collect(0)
    return user.learn("other", words=("ring", ("blob",))).file


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (foreign, "'ring' was learned on other .* learn it again from its examples"),
        (damaged, "cannot be read as an adapter: it is missing or damaged"),
        (other_finding_of_the_same_word, "'blob' already means the learned 'bright disc'"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(user, learned, library, make, message):
    before = user.do(teaching.ListLearned(library))
    with pytest.raises(FastTextDiffError, match=message):
        user.do(teaching.ImportLearned(library, make(user, learned, library)))
    assert user.do(teaching.ListLearned(library)) == before


def test_what_cannot_be_used_any_more_says_so_and_can_be_removed(user, learned, library):
    (library / "bright-disc" / "v0002.safetensors").write_bytes(b"half")
    (broken,) = user.do(teaching.ListLearned(library)).findings
    assert (broken.finding, broken.versions) == ("bright-disc", 2)
    assert "roll it back or remove it" in broken.problem
    answer = user.do(Segment("v", ("left lung",), user.new_folder(), library=library))
    assert answer.notes == (broken.problem,)
    (back,) = user.do(teaching.RollBackLearned(library, "bright-disc")).findings
    assert (back.finding, back.versions, back.problem) == ("bright disc", 1, "")
    foreign(user, learned, library).rename(library / "bright-disc" / "v0002.safetensors")
    with pytest.raises(FastTextDiffError, match="learn it again from its examples"):
        user.segment("ring", library=library)
    assert user.segment("left lung", library=library)["left lung"].tags["FastTextDiff.Adapter"] == ""


@pytest.mark.parametrize(
    ("slices", "masks", "message"),
    [
        ((3,), None, "all masks of the examples are empty: mark the finding on at least one slice"),
        ((0,), np.ones((1, *SHAPE[1:]), bool), "the mask covers the whole slice: mark the finding only"),
        ((0, 0), "apart", "examples 1 and 2 are the same slice with different masks: keep one of them"),
        ((9,), np.ones((1, *SHAPE[1:]), bool), "slice 9 is not in this image: it has 0 to 3"),
        ((0,), np.ones((1, 56, 40), bool), "the masks have 1 x 56 x 40 voxels, the slices 1 x 40 x 56"),
    ],
)
def test_examples_that_teach_nothing_are_refused(user, tmp_path, slices, masks, message):
    if isinstance(masks, str):
        masks = np.stack([user.discs[0], np.roll(user.discs[0], 25, 1)])

    def teach():
        user.collect(*slices, masks=masks)
        user.learn("nothing", keep=tmp_path / "kept")

    with pytest.raises(FastTextDiffError, match=message):
        teach()
    assert not (user.folder / "nothing.safetensors").exists()
    assert not (tmp_path / "kept").exists()


def test_cancelling_leaves_no_trace(user, tmp_path):
    user.collect(0, 1)
    with pytest.raises(Cancelled):
        user.learn("cancelled", keep=tmp_path / "kept", progress=lambda done, total: done < total // 2)
    assert not (user.folder / "cancelled.safetensors").exists()
    assert not (tmp_path / "kept").exists()


def test_further_examples_keep_the_synonyms_of_their_folder(user, tmp_path):
    user.collect(0, 1)
    user.learn(keep=tmp_path / "kept")
    user.collect(2)
    assert user.learn(words=("bright disc", ()), keep=tmp_path / "kept").synonyms == ("blob",)
    assert user.learn(words=("bright disc", ()), keep=tmp_path / "kept", collected=False).synonyms == ("blob",)


def test_kept_examples_are_learned_from_again(user, tmp_path):
    user.collect(0, 3)
    user.learn("first", keep=tmp_path / "kept")
    user.collect(1)
    assert user.learn("second", words=("Bright Disc", ("blob",)), keep=tmp_path / "kept").examples == 3
    user.collect(2)  # of a run that was given up
    assert user.learn("third", keep=tmp_path / "kept", collected=False).examples == 3
    with pytest.raises(FastTextDiffError, match="has examples of 'Bright Disc': choose another folder"):
        user.learn("fourth", words=("ring", ()), keep=tmp_path / "kept")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda kept: kept.parent.write_text(""), "is a file; choose another folder"),
        (lambda kept: (kept.mkdir(parents=True), (kept / "examples.json").write_text("{")), "it is damaged"),
        (lambda kept: kept.parent.mkdir() or (kept.parent.parent / "settings").write_text(""), "set FASTTEXTDIFF_SET"),
    ],
    ids=["file", "damaged", "no secret"],
)
def test_examples_that_cannot_be_kept_are_refused_before_learning(user, tmp_path, monkeypatch, damage, message):
    monkeypatch.setenv("FASTTEXTDIFF_SETTINGS", str(tmp_path / "settings"))
    damage(tmp_path / "day" / "kept")
    user.collect(0, 3)
    asked = []
    with pytest.raises(FastTextDiffError, match=message):
        user.learn("not kept", keep=tmp_path / "day" / "kept", progress=lambda *done: asked.append(done) or True)
    assert asked == []
    assert not (user.folder / "not kept.safetensors").exists()


def test_a_stroke_on_a_tiled_picture_changes_its_tiles_only(user):
    shape = (1, 700, 900)
    pixels = np.random.default_rng(1).integers(0, 255, (*shape, 3)).astype(np.uint8)
    matrix = tuple(np.eye(4).ravel().tolist())
    user.do(OpenVolume("tissue", user.file(pixels), matrix, modality="histology"))
    tiles = user.jobs.image("tissue").tiles
    assert len(tiles) > 1
    mark = np.zeros(shape, np.uint8)
    mark[0, 5, 5:30] = 1
    found = []
    for strokes in ((), (teaching.StrokeMark(user.file(mark), True),)):
        request = teaching.Correct("tissue", "cell nuclei", 0, strokes, user.new_folder())
        found.append(mapped(user.do(request).findings[0].probability))
    changed = found[0] != found[1]
    assert (found[1][mark > 0] == 1).all()
    assert changed.any()
    touched = np.zeros(shape[1:], bool)
    for tile in tiles:
        if mark[0][tile.slices].any():
            touched[tile.slices] = True
    assert not changed[0][~touched].any()

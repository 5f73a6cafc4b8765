"""A finding is learned from a few slices; the model, other words and interrupted runs stay as they were."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import one_line, tiny_pipeline

from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.errors import Cancelled, FastTextDiffError, ModelError, UsageError
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.model.torch_runtime import TorchRuntime
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.segments.tags import segment_tags
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.teaching.answers import Adapters, adapted, adapter_of
from fasttextdiff.teaching.example_files import anonymous, load_examples, save_examples
from fasttextdiff.teaching.examples import Example, examples_of, may_mirror
from fasttextdiff.teaching.learning import learn
from fasttextdiff.teaching.library import AdapterLibrary
from fasttextdiff.teaching.strokes import StrokeCorrector
from fasttextdiff.teaching.user_secret import SETTINGS_VARIABLE, user_secret
from fasttextdiff.word_effects import weigh_words

SHAPE = (40, 56)


def example(seed, *, empty=False, group=""):
    """A bright disc of any place on noise."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(12, 28), rng.uniform(12, 44)
    disc = np.hypot(*(np.indices(SHAPE) - np.reshape(centre, (2, 1, 1)))) < 8
    disc &= not empty
    pixels = rng.normal(60, 8, SHAPE) + 90 * disc
    return Example(np.clip(pixels, 0, 255).astype(np.uint8), disc, (127.5, 255.0), (1.0, 1.0), Modality.MR, 0.0, group)


@pytest.fixture(scope="module")
def runtime():
    return TorchRuntime(tiny_pipeline(), "cpu")


@pytest.fixture(scope="module")
def adapter(runtime):
    return learn(runtime, [example(1), example(2), example(3, empty=True)], "bright disc", synonyms=["blob"])


def probability(runtime, adapter, one):
    pipeline = runtime.pipeline
    lesson = one.lesson(pipeline.preprocessing, pipeline.denoiser.multiple)
    maps = runtime.maps([lesson.pixels], lesson.fit, 0)[0]
    odds, _ = adapted(adapter, pipeline, lesson.pixels, maps, lesson.fit)
    return 1 / (1 + np.exp(-odds))


def test_a_finding_is_learned_and_the_model_is_only_read(runtime):
    before = {name: weight.clone() for name, weight in runtime.pipeline.state_dict().items()}
    made = learn(runtime, [example(1), example(2), example(3, empty=True)], "bright disc")
    for seed in (11, 12, 13):
        one = example(seed)
        mask = probability(runtime, made, one) > 0.5
        assert 2 * (mask & one.mask).sum() / (mask.sum() + one.mask.sum()) > 0.7
    assert (probability(runtime, made, example(14, empty=True)) > 0.5).mean() < 0.01
    assert all(torch.equal(weight, before[name]) for name, weight in runtime.pipeline.state_dict().items())
    assert (made.card.examples, made.card.negatives, made.card.held_out_dice) == (3, 1, None)


def test_enough_examples_are_measured_on_held_out_ones(runtime):
    made = learn(runtime, [example(n, group=str(n)) for n in range(6)], "bright disc")
    assert 0.5 < made.card.held_out_dice <= 1


def test_cancelling_leaves_nothing(runtime):
    asked = []

    def stop(done, total):
        asked.append((done, total))
        return len(asked) < 3

    with pytest.raises(Cancelled, match="nothing was changed"):
        learn(runtime, [example(1)], "bright disc", progress=stop)
    assert asked == [(1, 4), (2, 4), (3, 4)]


@pytest.mark.parametrize(
    ("examples", "words", "message"),
    [
        ([], ("disc",), "from 1 to"),
        ([example(1, empty=True)], ("disc",), "all masks of the examples are empty"),
        (
            [example(1), replace(example(2), mask=np.ones(SHAPE, bool))],
            ("disc",),
            "example 2: the mask covers the whole",
        ),
        ([replace(example(1), mask=np.ones((4, 4), bool))], ("disc",), "example 1: the mask has 4 x 4 pixels"),
        ([example(1), replace(example(1), mask=~example(1).mask)], ("disc",), "examples 1 and 2 are the same slice"),
        ([example(1), replace(example(2), modality=Modality.CT)], ("disc",), "the examples are of ct and mr"),
        ([example(1)], ("disc", "Disc"), "'Disc' is listed twice"),
        ([example(1)], ("  ",), "a finding is empty"),
    ],
)
def test_examples_that_teach_nothing_are_refused(runtime, examples, words, message):
    with pytest.raises(UsageError) as caught:
        learn(runtime, examples, words[0], synonyms=words[1:])
    one_line(caught, message)


def test_a_side_or_an_organ_is_not_mirrored():
    assert may_mirror(["nuclei"], Modality.HISTOLOGY)
    assert not may_mirror(["left kidney"], Modality.HISTOLOGY)
    assert not may_mirror(["liver"], Modality.CT)


def test_an_adapter_file_gives_the_same_bits(runtime, adapter, tmp_path):
    adapter.save(tmp_path / "a.safetensors")
    loaded = Adapter.load(tmp_path / "a.safetensors")
    assert loaded.card == adapter.card
    assert loaded.sha256() == adapter.sha256()
    assert (tmp_path / "a.safetensors").stat().st_size < 200_000
    loaded.require_base(runtime.pipeline.info.weights_sha256, "tiny")
    with pytest.raises(ModelError) as caught:
        loaded.require_base("0" * 16, "another")
    one_line(caught, "learned on tiny", "learn it again from its examples")


def test_two_adapters_for_one_word_are_refused(adapter):
    both = Adapters((adapter, adapter.renamed("disc", [])))
    info = tiny_pipeline().info
    assert adapter_of("BLOB", both.all, info, Modality.MR) == (adapter, "blob")
    assert adapter_of("ring", both.all, info, Modality.MR) == (None, "")
    with pytest.raises(UsageError, match="two adapters are for 'blob'"):
        Adapters((adapter, adapter.renamed("disc", ["blob"])))


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign", "not finite", "empty"])
def test_a_damaged_or_foreign_adapter_is_refused(adapter, tmp_path, damage):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    adapter.save(path)
    content = path.read_bytes()
    path.unlink()
    if damage in ("cut", "empty"):
        path.write_bytes(content[:-100] if damage == "cut" else b"")
    elif damage == "foreign":
        save_file({"weight": torch.zeros(3)}, path)
    elif damage == "not finite":
        path.write_bytes(content[:-4] + b"\xff\xff\xff\xff")
    with pytest.raises(ModelError) as caught:
        Adapter.load(path)
    one_line(caught, str(path))


def test_the_library_keeps_versions_and_one_meaning_for_a_word(adapter, tmp_path):
    library = AdapterLibrary(tmp_path / "learned")
    assert library.entries() == []
    library.add(adapter)
    library.add(adapter)
    assert [(e.card.finding, e.versions, e.enabled) for e in library.entries()] == [("bright disc", 2, True)]
    assert library.find("  Blob ").card == adapter.card
    assert library.find("disc") is None
    with pytest.raises(UsageError, match="'blob' already means the learned 'bright disc'"):
        library.add(adapter.renamed("other", ["blob"]))
    assert library.roll_back("blob").versions == 1
    with pytest.raises(UsageError, match="no earlier version"):
        library.roll_back("blob")
    library.enable("blob", False)
    assert library.find("blob") is None
    assert library.add(adapter).enabled
    library.enable("blob", False)
    library.add(adapter.renamed("other", ["blob"]))
    with pytest.raises(UsageError, match="already means the learned 'other'"):
        library.enable("bright disc")
    library.remove("other")
    library.enable("bright disc")
    assert library.rename("blob", "ring", ["halo"]).card.words == ("ring", "halo")
    assert library.find("ring").sha256() == adapter.sha256()
    assert library.rename("ring", "hoop").card.words == ("hoop", "halo")
    assert library.rename("hoop", "Halo").card.words == ("Halo",)
    assert library.rename("halo", "ring", ["halo"]).card.words == ("ring", "halo")
    library.export("halo", tmp_path / "ring.safetensors")
    library.remove("ring")
    with pytest.raises(UsageError, match="was not learned here: the library has nothing"):
        library.entry("ring")
    assert library.import_file(tmp_path / "ring.safetensors").card.finding == "ring"


@pytest.mark.parametrize("name", ["rename", "replace"])
def test_a_learned_finding_that_cannot_be_renamed_keeps_its_name_and_place(adapter, tmp_path, monkeypatch, name):
    library = AdapterLibrary(tmp_path / "learned")
    before = library.add(adapter)
    real = getattr(Path, name)

    def locked(path, target):
        if path == before.folder or target.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, target)

    monkeypatch.setattr(Path, name, locked)
    with pytest.raises(FastTextDiffError) as caught:
        library.rename("blob", "ring")
    one_line(caught, "cannot", "ermission denied")
    assert library.entries() == [before]
    assert library.load(before).sha256() == adapter.sha256()


def test_examples_come_back_from_their_folder_without_names(tmp_path):
    first, second = example(1, group="Mrs Smith"), example(2, group="Mrs Smith")
    assert save_examples(tmp_path / "x", [first], "bright disc", ["blob"]) == 1
    assert save_examples(tmp_path / "x", [second, replace(first, mask=second.mask)], "bright disc", ["blob"]) == 2
    loaded, finding, synonyms = load_examples(tmp_path / "x")
    assert (finding, synonyms) == ("bright disc", ("blob",))
    by_key = {one.key(): one for one in loaded}
    np.testing.assert_array_equal(by_key[first.key()].mask, second.mask)
    assert by_key[second.key()].window == second.window
    assert loaded[0].group == loaded[1].group != "Mrs Smith"
    assert not any(b"Smith" in path.read_bytes() for path in (tmp_path / "x").iterdir())
    with pytest.raises(UsageError, match="has examples of 'bright disc'"):
        save_examples(tmp_path / "x", [first], "other")
    next((tmp_path / "x").glob("*.mask.nrrd")).unlink()
    with pytest.raises(FastTextDiffError, match="missing or damaged"):
        load_examples(tmp_path / "x")


def groups_in(folder):
    return {about["group"] for about in json.loads((folder / "examples.json").read_text())["slices"].values()}


def salted(group, folder):
    """A group as folders of earlier days have it: the salt is stored with it, so numbers can be tried."""
    salt = json.loads((folder / "examples.json").read_text())["salt"]
    return hashlib.blake2b(group.encode(), key=salt.encode(), digest_size=6).hexdigest()


def test_a_patient_cannot_be_told_from_a_folder_without_the_users_secret(tmp_path, monkeypatch):
    monkeypatch.setenv(SETTINGS_VARIABLE, str(tmp_path / "mine"))
    folder = tmp_path / "x"
    for seed in (1, 2):
        save_examples(folder, [example(seed, group="1234567")], "disc")
    (group,) = groups_in(folder)
    assert group == anonymous(folder, "1234567") != anonymous(folder, "1234568")
    (secret,) = (tmp_path / "mine").iterdir()
    assert len(user_secret()) == 32
    if os.name == "posix":
        assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not any(salted("1234567", folder) in path.read_text("latin-1") for path in folder.iterdir())
    monkeypatch.setenv(SETTINGS_VARIABLE, str(tmp_path / "other"))
    assert anonymous(folder, "1234567") != group
    (tmp_path / "other" / secret.name).write_bytes(b"")
    with pytest.raises(FastTextDiffError) as caught:
        anonymous(folder, "1234567")
    one_line(caught, "is damaged", str(tmp_path / "other"))


def test_a_folder_of_earlier_days_is_read_and_its_patients_stay_one_group(tmp_path):
    folder = tmp_path / "x"
    save_examples(folder, [example(1, group="7")], "disc")
    index = json.loads((folder / "examples.json").read_text())
    for about in index["slices"].values():
        about["group"] = salted("7", folder)
    (folder / "examples.json").write_text(json.dumps(index))
    assert load_examples(folder)[0][0].group == anonymous(folder, "7")
    save_examples(folder, [example(2, group="7")], "Disc")
    assert groups_in(folder) == {anonymous(folder, "7")}


def test_an_earlier_name_of_a_renamed_finding_is_another_finding(adapter, tmp_path):
    library = AdapterLibrary(tmp_path / "learned")
    lesion = adapter.renamed("lesion", ["cyst"])
    library.add(lesion)
    library.add(lesion)
    library.rename("lesion", "cyst")
    library.add(adapter.renamed("lesion", []))
    found = {entry.card.finding: (entry.versions, entry.folder.name) for entry in library.entries()}
    assert found == {"cyst": (2, "lesion"), "lesion": (1, "lesion-2")}
    with pytest.raises(UsageError, match="'lesion' already means the learned 'lesion'"):
        library.roll_back("cyst")  # to the version that was called "lesion; cyst"
    with pytest.raises(UsageError, match="'cyst' already means the learned 'cyst'"):
        library.rename("lesion", "lesion", ["cyst"])
    library.remove("lesion")
    (library.folder / "lesion" / "v0002.safetensors").write_bytes(b"half")
    with pytest.raises(UsageError, match="is damaged: roll 'lesion' back or remove it first"):
        library.add(adapter.renamed("lesion", []))
    assert library.roll_back("lesion").card.words == ("lesion", "cyst")


@pytest.fixture
def segmenter(runtime):
    return Segmenter(runtime.pipeline, "cpu")


def volume_of(one, modality=Modality.MR):
    return Volume(one.voxels[None], np.diag([-1.0, -1.0, 1.0, 1.0]), modality, is_planar=True)


def test_an_adapter_answers_its_words_and_no_others(segmenter, adapter):
    shown, asked = volume_of(example(11)), ["blob", "disc of another kind"]
    before = segmenter.segment(shown, asked, try_anyway=True)
    segmenter.use([adapter])
    after = segmenter.segment(shown, asked, try_anyway=True)
    np.testing.assert_array_equal(after.findings[1].probability, before.findings[1].probability)
    np.testing.assert_array_equal(after.findings[1].presence, before.findings[1].presence)
    found, truth = after.findings[0], example(11).mask
    assert 2 * (found.mask[0] & truth).sum() / (found.mask.sum() + truth.sum()) > 0.7
    assert found.adapter.startswith("bright disc from 3 slices, ")
    assert segment_tags(found, after.provenance)["FastTextDiff.Adapter"] == found.adapter
    assert segment_tags(after.findings[1], after.provenance)["FastTextDiff.Adapter"] == ""
    segmenter.use([])
    again = segmenter.segment(shown, asked, try_anyway=True)
    np.testing.assert_array_equal(again.findings[0].probability, before.findings[0].probability)


def test_a_learned_finding_needs_no_try_anyway_but_its_modality(segmenter, adapter):
    segmenter.use([adapter])
    found = segmenter.segment(volume_of(example(11)), ["Bright disc"]).findings[0]
    assert found.mask.any()
    assert found.warnings == ()
    other = segmenter.segment(volume_of(example(11), Modality.CT), ["bright disc"]).findings[0]
    assert not other.mask.any()
    assert other.warnings == ("'bright disc' was learned on mr, and this image is ct: left empty",)


def test_a_finding_that_was_learned_on_mr_stays_the_models_own_on_ct(segmenter, adapter):
    shown = volume_of(example(11), Modality.CT)
    object.__setattr__(segmenter.info, "taught", {"ct": (TaughtFinding("bright disc"),)})
    before = segmenter.segment(shown, ["bright disc"]).findings[0]
    segmenter.use([adapter])
    after = segmenter.segment(shown, ["bright disc"]).findings[0]
    np.testing.assert_array_equal(after.probability, before.probability)
    assert (after.adapter, after.untaught) == ("", "")
    assert segmenter.segment(volume_of(example(11)), ["bright disc"]).findings[0].adapter
    near = segmenter.segment(volume_of(example(11)), ["bright discs nearby"]).findings[0]
    assert not near.mask.any()  # a word that only resembles a learned one is not taught


def test_a_volume_teaches_and_an_adapter_of_another_model_is_refused(segmenter, adapter):
    one = example(1)
    image = segmenter.prepare(volume_of(one))
    (taken,) = examples_of(image, 0, one.mask[None])
    np.testing.assert_array_equal(taken.mask, one.mask)
    with pytest.raises(UsageError, match="the mask has 1 x 2 x 3 voxels, the image 1 x 40 x 56"):
        examples_of(image, 0, np.zeros((1, 2, 3), bool))
    made = segmenter.adapt([taken], finding="bright disc")
    foreign = replace(made, card=replace(made.card, base_weights_sha256="0" * 16))
    with pytest.raises(ModelError, match="learn it again from its examples"):
        segmenter.use([foreign])


def test_strokes_correct_what_an_adapter_answers(segmenter, adapter):
    one = example(11)
    lesson = one.lesson(segmenter.pipeline.preprocessing, segmenter.pipeline.denoiser.multiple)
    maps = segmenter.runtime.maps([lesson.pixels], lesson.fit, 0)[0]
    odds, _ = adapted(adapter, segmenter.pipeline, lesson.pixels, maps, lesson.fit)
    corrector = StrokeCorrector.of(segmenter.pipeline, lesson.pixels, maps, lesson.fit, "blob", adapter)
    assert ((corrector.mask() != (odds > 0)).mean()) < 0.01
    mark = np.zeros(SHAPE, bool)
    mark[1, 1:5] = True
    corrector.add(mark, True)
    assert corrector.mask()[1, 1:5].all()


def test_examples_of_a_ct_are_shown_in_the_window_of_the_model_that_learns(segmenter, tmp_path):
    """A newer model may see CT in another window; the examples keep the Hounsfield units."""
    voxels = np.linspace(-900, 300, 5 * 40 * 56).reshape(5, 40, 56).astype(np.int16)
    mask = voxels > 200
    image = segmenter.prepare(Volume(voxels, np.diag([-1.0, -1.0, 2.0, 1.0]), Modality.CT))
    save_examples(tmp_path / "x", examples_of(image, 4, mask), "bone")
    (kept,), *_ = load_examples(tmp_path / "x")
    preprocessing = segmenter.pipeline.preprocessing
    narrow = replace(preprocessing.settings[Modality.CT], window=(200.0, 100.0))
    other = replace(preprocessing, settings={**preprocessing.settings, Modality.CT: narrow})
    assert kept.lesson(other, 8).pixels.min() == 0
    assert kept.lesson(preprocessing, 8).pixels.min() > 0


def test_the_words_of_a_learned_finding_are_weighed_in_the_window_in_which_it_is_segmented(segmenter):
    """Its name contains that of a taught finding, which has a window of its own."""
    voxels = np.stack([example(seed).voxels for seed in (1, 2, 3)]).astype(np.int16) * 4 - 500
    volume = Volume(voxels, np.diag([-1.0, -1.0, 2.0, 1.0]), Modality.CT)
    image = segmenter.prepare(volume)
    (taken,) = examples_of(image, 0, np.stack([example(seed).mask for seed in (1, 2, 3)]))
    segmenter.use([segmenter.adapt([taken], finding="liver cyst")])
    (found,) = segmenter.segment(volume, ["liver cyst"], slices=(1, 2), slice_by_slice=True).findings
    weighed = weigh_words(segmenter, replace(image, slices=range(1, 2)), "liver cyst")
    assert found.window == image.window != segmenter.info.window("liver cyst", Modality.CT)
    assert weighed.presence == found.presence[1]
    assert weighed.found == found.mask.any()

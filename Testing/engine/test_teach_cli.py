"""Learning a finding and managing what was learned, on the command line."""

import json
from unittest import mock

import numpy as np
import pydicom
import pytest
import torch
from dicom_files import write_stack
from PIL import Image
from pydicom.uid import MRImageStorage

from fasttextdiff import read_volume
from fasttextdiff.contract.answers import TaughtFinding
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.teaching import examples
from fasttextdiff.teaching.adapter import Adapter
from fasttextdiff.training.teaching_table import table_examples

WORDS = ("-f", "bright disc", "--synonym", "blob")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three pictures with a disc and its mask, one without, and a row of another finding."""
    folder = tmp_path_factory.mktemp("examples")
    rows = ["image,mask,text,modality,patient"]
    for n in range(4):
        rng = np.random.default_rng(n)
        disc = np.hypot(*(np.indices((40, 48)) - np.reshape(rng.uniform(12, 28, 2), (2, 1, 1)))) < 8
        disc &= n != 3
        pixels = np.clip(rng.normal(60, 8, disc.shape) + 90 * disc, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        Image.fromarray(disc.astype(np.uint8) * 255).save(folder / f"{n}_mask.png")
        rows.append(f"{n}.png,{n}_mask.png,Bright disc,mr,p{n}")
    rows.append("nowhere.png,nowhere.png,liver,mr,p9")
    (folder / "examples.csv").write_text("\n".join(rows))
    return folder / "examples.csv"


def test_adapt_and_the_library(run, table, tmp_path):
    made, library = tmp_path / "disc.safetensors", tmp_path / "learned"
    code, out, _ = run("adapt", table, *WORDS, "-o", made, "--keep", tmp_path / "kept")
    assert code == 0
    assert f"wrote {made}" in out
    assert len(list((tmp_path / "kept").glob("*.mask.nrrd"))) == 4

    def call(*arguments):
        return run("adapters", *arguments, with_model=False)

    assert "blob" in call("show", made)[1]
    assert call("import", library, made)[:2] == (0, "added 'bright disc', version 1\n")
    assert call("import", library, made)[1] == "added 'bright disc', version 2\n"
    assert "bright disc" in call("list", library)[1]
    assert call("roll-back", library, "blob")[1] == "'bright disc' is at version 1\n"
    assert call("switch", library, "blob", "--off")[1] == "'bright disc' is off\n"
    assert call("rename", library, "bright disc", "ring")[0] == 0
    assert "blob" in call("list", library)[1]
    assert call("export", library, "ring", "-o", tmp_path / "ring.safetensors")[0] == 0
    assert call("remove", library, "ring")[1] == "removed 'ring'\n"
    code, _, err = call("remove", library, "ring")
    assert (code, err) == (2, "error: 'ring' was not learned here: the library has nothing\n")


def test_a_folder_of_examples_is_learned_as_its_finding_only(run, table, tmp_path):
    kept, made = tmp_path / "kept", tmp_path / "again.safetensors"
    assert run("adapt", table, *WORDS, "-o", tmp_path / "disc.safetensors", "--keep", kept)[0] == 0
    code, _, err = run("adapt", kept, "-f", "liver", "-o", made)
    assert (code, made.exists()) == (2, False)
    assert f"{kept} has examples of 'bright disc', not of 'liver'" in err

    assert run("adapt", kept, "-f", "Bright  disc", "-o", made)[0] == 0
    assert Adapter.load(made).card.synonyms == ("blob",)
    assert run("adapt", kept, "-f", "bright disc", "--synonym", "spot", "-o", made)[0] == 0
    assert Adapter.load(made).card.synonyms == ("spot",)


def test_further_examples_keep_the_synonyms_of_their_folder(run, table, tmp_path):
    kept, made = tmp_path / "kept", tmp_path / "disc.safetensors"
    assert run("adapt", table, *WORDS, "-o", made, "--keep", kept)[0] == 0
    assert run("adapt", table, "-f", "bright disc", "-o", made, "--keep", kept)[0] == 0
    assert Adapter.load(made).card.synonyms == ("blob",)
    assert json.loads((kept / "examples.json").read_text())["synonyms"] == ["blob"]
    assert run("adapt", table, "-f", "bright disc", "--synonym", "spot", "-o", made, "--keep", kept)[0] == 0
    assert json.loads((kept / "examples.json").read_text())["synonyms"] == ["spot"]


def test_a_library_with_a_damaged_finding_is_listed_and_repaired(run, adapter, tmp_path):
    library, missing = tmp_path / "learned", tmp_path / "nowhere"

    def call(*arguments):
        return run("adapters", *arguments, with_model=False)

    code, _, err = call("list", missing)
    assert (code, err) == (2, f"error: there is no library {missing}: 'adapters import' makes one\n")
    assert call("import", library, adapter)[0] == 0
    Adapter.load(adapter).renamed("ring", []).save(tmp_path / "ring.safetensors")
    assert call("import", library, tmp_path / "ring.safetensors")[0] == 0
    (library / "ring" / "v0001.safetensors").write_bytes(b"cut")
    code, out, err = call("list", library)
    assert code == 0
    assert "bright disc" in out
    assert "damaged" in err
    assert "roll 'ring' back or remove it" in err
    assert call("remove", library, "ring")[:2] == (0, "removed 'ring'\n")
    assert call("list", library)[2] == ""


@pytest.fixture(scope="module")
def adapter(model, table):
    """The file of an adapter."""
    words, *synonyms = WORDS[1::2]
    segmenter = Segmenter(model, "cpu", runtime="torch")
    path = table.parent / "disc.safetensors"
    shown = table_examples(table, {words}, segmenter.prepare)
    segmenter.adapt(shown, finding=words, synonyms=synonyms).save(path)
    return path


def test_segment_and_batch_use_an_adapter_and_say_so(run, table, adapter, tmp_path):
    image, made = table.parent / "1.png", tmp_path / "1.seg.nrrd"
    code, _, err = run("segment", image, "--modality", "mr", "-f", "Blob", "-o", made, "--adapter", adapter)
    assert code == 0
    assert "note: learned here: bright disc from 4 slices" in err
    assert "FastTextDiff.Adapter:=" in made.read_bytes().decode("latin-1") or (
        b"FastTextDiff.Adapter:bright disc from 4 slices" in made.read_bytes()
    )
    (tmp_path / "jobs.csv").write_text(f"path,findings,modality\n{image},blob,mr\n")
    jobs = ("batch", tmp_path / "jobs.csv", "-o", tmp_path / "out", "--adapter", adapter)
    assert run(*jobs)[0] == 0
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/case.json"))
    assert record["findings"][0]["adapter"].startswith("bright disc from 4 slices")
    assert record["findings"][0]["untaught"] == ""
    assert run(*jobs)[0] == 0  # resumes
    Adapter.load(adapter).renamed("bright disc", ["ring"]).save(tmp_path / "renamed.safetensors")
    for other in (jobs[:-2], (*jobs[:-1], tmp_path / "renamed.safetensors")):
        code, _, err = run(*other)
        assert code == 2
        assert "adapters" in err


def test_a_dicom_segmentation_names_the_adapter_of_its_segment_only(run, adapter, tmp_path):
    pytest.importorskip("highdicom", reason="needs highdicom")
    series, made = tmp_path / "mr", tmp_path / "out.dcm"
    voxels = np.random.default_rng(0).integers(0, 255, (3, 40, 48)).astype(np.int16)
    axial = np.diag([-1.0, -1.0, 4.0, 1.0])
    write_stack(series, voxels, axial, Modality="MR", SOPClassUID=MRImageStorage)
    asked = ("-f", "ring", "-f", "blob", "--try-anyway")
    assert run("segment", series, *asked, "-o", made, "--adapter", adapter)[0] == 0
    for segment in pydicom.dcmread(made).SegmentSequence:
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        named = f"adapter={Adapter.load(adapter).card.finding}" in algorithm.AlgorithmParameters
        assert named == (segment.SegmentLabel == "blob")
    assert {segment.SegmentLabel for segment in pydicom.dcmread(made).SegmentSequence} == {"ring", "blob"}


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_findings_beside_a_learned_one_keep_their_bits_in_every_runtime(model, table, adapter, runtime):
    plain, taught = (Segmenter(model, "cpu", runtime=runtime) for _ in range(2))
    taught.use([Adapter.load(adapter)])
    volume = read_volume(table.parent / "1.png", modality="mr")
    without = plain.segment(volume, ["blob", "ring"], try_anyway=True)
    found = taught.segment(volume, ["blob", "ring"], try_anyway=True)
    assert found.of("ring").probability.tobytes() == without.of("ring").probability.tobytes()
    assert found.of("blob").adapter.startswith("bright disc from 4 slices")
    assert found.of("blob").probability.tobytes() != without.of("blob").probability.tobytes()
    assert found.provenance.runtime.startswith(runtime)


def test_a_misspelt_learned_finding_is_found_and_a_misspelt_taught_one_is_not(model, table, adapter):
    """The prompts that the adapter does not answer keep their bits, misspelt or not."""
    plain, taught = (Segmenter(model, "cpu", runtime="torch") for _ in range(2))
    plain.info.taught["mr"] = taught.info.taught["mr"] = (TaughtFinding("bright disk"), TaughtFinding("left lung"))
    taught.use([Adapter.load(adapter).renamed("bright spindle", ["left lungx"])])
    volume = read_volume(table.parent / "1.png", modality="mr")
    others = ("bright disk", "bright diks", "left lung", "left lungs", "letf lung", "right spindle", "spindle")
    without = plain.segment(volume, others, try_anyway=True)
    found = taught.segment(volume, [*others, "bright spindel", "Bright spindles"], try_anyway=True)
    for text in others:
        assert found.of(text).probability.tobytes() == without.of(text).probability.tobytes(), text
        assert (found.of(text).adapter, found.of(text).warnings) == ("", without.of(text).warnings)
    for text in ("bright spindel", "Bright spindles"):
        assert found.of(text).adapter.startswith("bright spindle from 4 slices")
        assert "spelling corrected: bright spindle" in found.of(text).warnings
    exact = taught.segment(volume, ["bright spindle"]).findings[0]
    assert exact.probability.tobytes() == found.of("bright spindel").probability.tobytes()
    assert exact.warnings == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-f", "ring", "-o", "x.safetensors"), "has no row with the text 'ring'"),
        (("-f", "bright disc", "-o", "x.txt"), "must be a .safetensors file, not x.txt"),
        (("-f", "bright disc", "--keep", __file__, "-o", "x.safetensors"), "is a file; choose another folder"),
    ],
)
def test_a_wrong_request_writes_nothing(run, table, tmp_path, arguments, message):
    *words, name = arguments
    code, _, err = run("adapt", table, *words, tmp_path / name)
    assert code == 2
    assert message in err
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [("x", "the slice 'x' is not a whole number from 0"), ("7", "slice 7 is not in this image: it has 0 to 0")],
)
def test_a_slice_that_does_not_exist_is_refused(run, table, tmp_path, cell, message):
    place = table.parent
    row = f"{place / '0.png'},{place / '0_mask.png'},bright disc,mr,{cell}"
    (tmp_path / "t.csv").write_text(f"image,mask,text,modality,slice\n{row}\n")
    code, _, err = run("adapt", tmp_path / "t.csv", *WORDS, "-o", tmp_path / "x.safetensors")
    assert code in (1, 2)
    assert message in err


def test_a_file_that_is_no_adapter_is_refused(run, table):
    code, _, err = run("adapters", "show", table, with_model=False)
    assert code == 1
    assert "cannot be read as an adapter" in err


def test_a_region_of_a_slide_is_learned_from_its_tiles_and_counted_in_slices(run, tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MOST", 6)  # both slides have more tiles together
    rng = np.random.default_rng(0)
    region = np.zeros((600, 800), np.uint8)
    for name, columns in (("marked", 600), ("without", 0), ("full", 800)):
        pixels = rng.integers(120, 250, (*region.shape, 3)).astype(np.uint8)
        mask = region.copy()
        mask[:, :columns] = 255  # fills whole tiles
        pixels[mask > 0, 2] //= 2
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / f"{name}_mask.png")

    def adapt(source, name, *more):
        code, _, err = run("adapt", source, "-f", "stroma", "-o", tmp_path / f"{name}.safetensors", *more)
        return code, err

    def table_of(*names):
        rows = [f"{name}.png,{name}_mask.png,stroma,histology" for name in names]
        (tmp_path / "examples.csv").write_text("\n".join(["image,mask,text,modality", *rows]))
        return tmp_path / "examples.csv"

    assert adapt(table_of("marked", "without"), "first", "--keep", tmp_path / "kept") == (0, mock.ANY)
    assert len(list((tmp_path / "kept").glob("*.mask.nrrd"))) > examples.MOST
    assert adapt(tmp_path / "kept", "again") == (0, mock.ANY)
    first, again = (Adapter.load(tmp_path / f"{name}.safetensors") for name in ("first", "again"))
    assert (first.card.examples, first.card.negatives) == (again.card.examples, again.card.negatives) == (2, 1)
    learned, relearned = (adapter.decoder.state_dict() for adapter in (first, again))
    assert all(torch.equal(weight, relearned[name]) for name, weight in learned.items())

    code, err = adapt(table_of("without", "full"), "full")
    assert code == 2
    assert "example 2: the mask covers the whole slice" in err

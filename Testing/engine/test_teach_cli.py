"""Learning a finding and managing what was learned, on the command line."""

import json
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from fasttextdiff import read_volume
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
    assert call("rename", library, "blob", "ring")[0] == 0
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
    code, _, err = run(*jobs[:-2])
    assert code == 2
    assert "adapters" in err


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

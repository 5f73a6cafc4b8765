"""Files of what was learned: damaged ones are refused in one line, and interruptions leave no half of a change."""

import json

import numpy as np
import pytest
from tiny_models import one_line

from fasttextdiff.errors import FastTextDiffError, ModelError
from fasttextdiff.image.volume import Modality
from fasttextdiff.teaching.adapter import Adapter, Card
from fasttextdiff.teaching.decoder import FindingDecoder
from fasttextdiff.teaching.example_files import load_examples, save_examples
from fasttextdiff.teaching.examples import Example
from fasttextdiff.teaching.library import AdapterLibrary


@pytest.fixture
def adapter():
    card = Card(
        *("bright disc", "bright disc", ("blob",), "mr", 3, 1, "tiny", "0123456789abcdef", None, 200, 0, 1.0),
        created="2026-11-30T12:00:00+00:00",
    )
    return Adapter(card, FindingDecoder([2, 3], 4).eval())


def example(seed):
    mask = np.zeros((20, 24), bool)
    mask[5:9, 6:12] = True
    voxels = np.random.default_rng(seed).integers(0, 255, mask.shape).astype(np.uint8)
    return Example(voxels, mask, (127.5, 255.0), (1.0, 1.0), Modality.MR, group="p")


def test_a_card_comes_back_from_its_file(adapter, tmp_path):
    adapter.save(tmp_path / "a.safetensors")
    assert Adapter.load(tmp_path / "a.safetensors").card == adapter.card


@pytest.mark.parametrize(
    "wrong",
    [
        {"synonyms": "blob"},
        {"synonyms": [3]},
        {"finding": 3},
        {"finding": "..."},
        {"modality": "pet"},
        {"created": None},
        {"examples": "five"},
        {"channels": [10**9]},
        {"channels": "many"},
        {"base_weights_sha256": None},
        {"text": ...},
        None,
    ],
    ids=str,
)
def test_an_adapter_with_a_wrong_card_is_refused_in_one_line(adapter, tmp_path, wrong):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    adapter.save(path)
    with safe_open(path, framework="pt") as file:
        metadata, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    card = None if wrong is None else {k: v for k, v in (json.loads(metadata["card"]) | wrong).items() if v is not ...}
    save_file(weights, path, {**metadata, "card": json.dumps(card)})
    with pytest.raises(ModelError, match="is damaged") as caught:
        Adapter.load(path)
    one_line(caught, str(path))


def test_an_interrupted_removal_does_not_bring_an_earlier_version_back(adapter, tmp_path, monkeypatch):
    library = AdapterLibrary(tmp_path / "learned")
    library.add(adapter)
    entry = library.add(adapter)

    def killed(folder, **_options):
        (folder / "v0002.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        library.remove("blob")
    assert library.entries() == []
    assert not entry.folder.exists()
    assert library.add(adapter).versions == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"finding": ...},
        {"finding": 3},
        {"synonyms": "blob"},
        {"synonyms": [None]},
        {"salt": None},
        {"slices": []},
        {"slices": {"a": "b"}},
        {"slices": {"a": {"group": 3}}},
    ],
    ids=str,
)
def test_a_damaged_list_of_examples_is_refused_in_one_line(tmp_path, wrong):
    save_examples(tmp_path, [example(1)], "bright disc", ["blob"])
    index = json.loads((tmp_path / "examples.json").read_text()) | wrong
    (tmp_path / "examples.json").write_text(json.dumps({name: v for name, v in index.items() if v is not ...}))
    for use in (load_examples, lambda folder: save_examples(folder, [example(2)], "bright disc")):
        with pytest.raises(FastTextDiffError, match="is damaged") as caught:
            use(tmp_path)
        one_line(caught, str(tmp_path / "examples.json"))
    assert len(list(tmp_path.glob("*.mask.nrrd"))) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("spacing", [0, 1]), ("spacing", [1]), ("spacing", [1, float("inf")]), ("window", [1]), ("modality", "pet")],
)
def test_a_damaged_example_is_refused_in_one_line(tmp_path, name, value):
    save_examples(tmp_path, [example(1)], "bright disc")
    index = json.loads((tmp_path / "examples.json").read_text())
    (about,) = index["slices"].values()
    about[name] = value
    (tmp_path / "examples.json").write_text(json.dumps(index))
    with pytest.raises(FastTextDiffError, match="missing or damaged") as caught:
        load_examples(tmp_path)
    one_line(caught, str(tmp_path))


def test_examples_that_cannot_be_written_leave_the_folder_as_it_was(tmp_path, monkeypatch):
    save_examples(tmp_path, [example(1)], "bright disc", ["blob"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_arguments, **_options):
        raise RuntimeError("sitkImageFileWriter: itk::ERROR")

    monkeypatch.setattr("SimpleITK.WriteImage", full)
    with pytest.raises(FastTextDiffError) as caught:
        save_examples(tmp_path, [example(2)], "bright disc")
    one_line(caught, str(tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

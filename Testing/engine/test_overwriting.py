"""No result ever overwrites an image, also if the same file has several names."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from command_line import error_line, everything
from dicom_files import write_stack
from own_folders import picture_folder
from PIL import Image

from fasttextdiff import FastTextDiffPipeline
from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.requests import SaveDicomSeg, SavedSegment
from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.io.atomic import whole_files, whole_folder
from fasttextdiff.io.overwriting import data_files, files_of, require_apart, require_own_record
from fasttextdiff.worker.dicom import save_dicom_seg


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "scans" / "sub").mkdir(parents=True)
    path = tmp_path / "scans" / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), path)
    path.with_name("scan.json").write_text('{"Manufacturer": "X"}')
    return path


def by_symlink(path: Path) -> Path:
    (link := path.with_name(f"link{''.join(path.suffixes)}")).symlink_to(path)
    return link


def by_hard_link(path: Path) -> Path:
    os.link(path, link := path.with_name(f"hard{''.join(path.suffixes)}"))
    return link


def by_linked_folder(path: Path) -> Path:
    (link := path.parents[1] / "folder").symlink_to(path.parent)
    return link / path.name


def in_capitals(path: Path) -> Path:
    stem, dot, rest = path.name.partition(".")
    return path.with_name(f"{stem.upper()}{dot}{rest}")


NAMES = {
    "itself": lambda path: path,
    "symlink": by_symlink,
    "hard link": by_hard_link,
    "linked folder": by_linked_folder,
    "another spelling": lambda path: path.parent / "sub" / ".." / path.name,
    "capital letters": in_capitals,
    "sidecar": lambda path: path.with_name("scan.json"),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_output_that_is_the_image_or_its_sidecar_is_refused_under_every_name(image, name):
    with pytest.raises(UsageError, match="choose another name"):
        require_apart([NAMES[name](image)], files_of(image))
    require_apart([image.with_name("other.nii.gz")], files_of(image))


def test_two_outputs_must_not_be_the_same_file(image):
    out = image.with_name("out.nii.gz")
    with pytest.raises(UsageError, match="two outputs"):
        require_apart([out, image.parent / "sub" / ".." / "OUT.nii.gz"], [])


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_the_file_of_the_voxels_belongs_to_its_header(tmp_path, ending):
    header = tmp_path / f"scan{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.int16)), str(header))
    (voxels,) = [path for path in tmp_path.iterdir() if path != header]
    assert data_files(header) == [voxels]
    with pytest.raises(UsageError):
        require_apart([voxels], files_of(header))


def test_voxel_files_given_as_list_or_pattern_belong_to_their_header(tmp_path):
    (tmp_path / "a.nhdr").write_text("NRRD0004\ndata file: LIST\nx.raw\ny.raw\n")
    assert data_files(tmp_path / "a.nhdr") == [tmp_path / "x.raw", tmp_path / "y.raw"]
    (tmp_path / "b.mhd").write_text("NDims = 3\nElementDataFile = s%02d.raw 1 3 1\n")
    assert data_files(tmp_path / "b.mhd") == [tmp_path / f"s0{n}.raw" for n in (1, 2, 3)]


def test_a_slice_of_any_dicom_series_is_never_replaced(tmp_path):
    write_stack(tmp_path / "series", np.zeros((3, 4, 5), np.int16), np.eye(4))
    victim = next(path for path in (tmp_path / "series").rglob("*") if path.is_file())
    with pytest.raises(UsageError, match="DICOM file"):
        require_apart([victim], [])


@pytest.mark.parametrize("text", ['{"Manufacturer": "X"}', "[" * 100_000, "no JSON"])
def test_a_foreign_record_is_not_replaced(tmp_path, text):
    (record := tmp_path / "out.json").write_text(text)
    with pytest.raises(UsageError, match="not the record of a result"):
        require_own_record(record)


@pytest.fixture
def refused(run, tmp_path, monkeypatch):
    """Checks that a command is refused in one line before a model is loaded, and that the folder does not change."""
    monkeypatch.setattr(FastTextDiffPipeline, "from_pretrained", lambda *_: pytest.fail("a model was loaded"))
    monkeypatch.chdir(tmp_path)

    def check(*arguments):
        before = everything(tmp_path)
        code, _, err = run(*arguments, with_model=False)
        assert code == 2, err
        assert "choose another" in error_line(err)
        assert everything(tmp_path) == before

    return check


PICTURE = {name: give for name, give in NAMES.items() if name != "sidecar"}
FIELDS = {
    "output": (".nii.gz", lambda image, victim: (image, "-o", victim)),
    "uncertainty": (".nii.gz", lambda image, victim: (image, "-o", "out.seg.nrrd", "--uncertainty", victim)),
    "preview": (".png", lambda image, victim: (image, "-o", "out.seg.nrrd", "--preview", victim)),
    "preview of a label map": (".png", lambda image, victim: (image, "-o", "out.nii.gz", "--preview", victim)),
}


@pytest.mark.parametrize("name", PICTURE)
@pytest.mark.parametrize("field", FIELDS)
def test_no_output_of_segment_replaces_its_image(refused, image, field, name):
    ending, arguments = FIELDS[field]
    if ending == ".png":
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(image := image.with_name("scan.png"))
    refused("segment", *arguments(image, PICTURE[name](image)), "-f", "left lung")


@pytest.mark.parametrize("output", ["scan.nii", "sub/../SCAN.nii", "other.nii.gz"])
def test_no_record_of_segment_replaces_a_sidecar(refused, image, output):
    """`scan.nii` is another file than the image `scan.nii.gz`, but its record has the name of the image's sidecar."""
    image.with_name("other.json").write_text('{"Manufacturer": "X"}')
    refused("segment", image, "-o", image.parent / output, "-f", "left lung")


def test_two_outputs_of_segment_must_not_be_the_same_file(refused, image):
    refused("segment", image, "-o", "a.nii.gz", "--uncertainty", "scans/../a.nii.gz", "-f", "left lung")


@pytest.fixture
def series(tmp_path):
    """A series and one of its files; a name ending in `.dcm` is needed for a DICOM SEG."""
    write_stack(tmp_path / "series", np.zeros((3, 8, 9), np.int16), np.diag([-1.0, -1.0, 2.5, 1.0]))
    victim = next(path for path in (tmp_path / "series").iterdir() if path.is_file())
    return victim.rename(victim.with_name("slice.dcm"))


SLICES = {name: NAMES[name] for name in ("itself", "symlink", "hard link", "linked folder", "capital letters")}


@pytest.mark.parametrize("name", SLICES)
def test_no_dicom_segmentation_replaces_a_slice_of_its_series(refused, series, name):
    pytest.importorskip("highdicom")
    refused("segment", series.parent, "-o", SLICES[name](series), "-f", "left lung")


@pytest.mark.parametrize("name", SLICES)
def test_no_dicom_segmentation_from_slicer_replaces_a_slice_of_its_series(series, tmp_path, name):
    pytest.importorskip("highdicom")
    np.zeros((3, 8, 9), bool).tofile(mask := tmp_path / "mask.raw")
    victim, files = SLICES[name](series), [path for path in series.parent.rglob("*") if path.is_file()]
    before = everything(tmp_path)
    segment = SavedSegment("lung", (255, 0, 0), "", {}, ArrayFile(mask, "bool", (3, 8, 9)))
    request = SaveDicomSeg(victim, tuple(files), "series", (0.0,) * 16, (segment,))
    with pytest.raises(UsageError, match="choose another name"):
        save_dicom_seg(request, lambda done, total: True)
    assert everything(tmp_path) == before


BATCHES = {
    "the input": ("studies", "studies"),
    "the input by a link": ("studies", "link"),
    "the input by another spelling": ("studies", "studies/sub/.."),
    "above the input": ("studies/deep", "studies"),
    "with the input in it": ("studies/scan.png", "studies"),
    "the job table": ("jobs.csv", "jobs.csv"),
    "the folder of the job table": ("jobs.csv", "."),
    "the images of the job table": ("jobs.csv", "studies"),
}


@pytest.mark.parametrize("way", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_does_not_write_among_its_images(refused, tmp_path, name, way):
    (tmp_path / "studies" / "sub").mkdir(parents=True)
    for place in ("studies/scan.png", "studies/deep/scan.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / place)
    (tmp_path / "link").symlink_to(tmp_path / "studies")
    (tmp_path / "jobs.csv").write_text("path\nstudies/scan.png\n")
    source, output = BATCHES[name]
    refused("batch", source, "-o", output, "-f", "left lung", *way)


@pytest.fixture
def labelled(tmp_path):
    """A labelled folder whose masks have the names of predicted ones."""
    return picture_folder(tmp_path / "data", 2)


DATA = ("dataset.json", "Train_text.xlsx", "Train_Folder/img/case0.png", "Train_Folder/labelcol/case1.png")


@pytest.mark.parametrize("name", [name for name in PICTURE if name != "capital letters"])
@pytest.mark.parametrize("victim", DATA)
@pytest.mark.parametrize("command", ["evaluate", "evaluate-control"])
def test_no_scores_replace_a_file_of_the_data(refused, labelled, command, victim, name):
    (labelled / victim).parent.joinpath("sub").mkdir()
    refused(command, labelled, "--split", "train", "--json", PICTURE[name](labelled / victim))


def test_no_benchmark_results_replace_the_image(refused, image):
    for victim in (image, image.with_name("scan.json")):
        refused("benchmark", "--image", image, "--json", victim)


def test_predicted_masks_and_reports_do_not_replace_a_file_of_the_data(refused, labelled, tmp_path):
    (tmp_path / "link").symlink_to(labelled / "Train_Folder" / "labelcol")
    (tmp_path / "hard").mkdir()
    os.link(labelled / "Train_Folder" / "img" / "case1.png", tmp_path / "hard" / "case1.png")
    for masks in ("data/Train_Folder/labelcol", "data/Train_Folder/img", "link", "hard"):
        refused("evaluate", labelled, "--split", "train", "--masks", masks)
    for report in ("data", "data/Train_Folder/labelcol", "data/dataset.json", "link"):
        refused("evaluate", labelled, "--split", "train", "--report", report)


RUN = """
name: mine
output: {output}
start: start/model
text_encoder: words
denoiser: pixels
datasets: {{mine: data, table: rows.csv}}
stages: [{{steps: 1, size: 32, batch: 1}}]
"""


@pytest.mark.parametrize(
    "output", ["data", "data/../data", "link", "rows.csv", "start/model", "start", "words", "pixels", "finished"]
)
def test_training_writes_neither_into_its_data_nor_over_another_model(refused, labelled, tmp_path, output):
    for folder in ("start/model", "words", "pixels", "finished/model"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to(labelled)
    (tmp_path / "rows.csv").write_text("image,mask,text\n")
    (tmp_path / "run.yaml").write_text(RUN.format(output=output))
    refused("train", "run.yaml")


PRETRAININGS = {
    "pretrain-text": ("texts", "--start", "start"),
    "distil-text": ("texts", "--start", "start", "--teacher", "teacher"),
    "pretrain-denoiser": ("texts", "--start", "start"),
}


@pytest.mark.parametrize("output", ["texts", "start", "link", "finished", "notes.txt"])
@pytest.mark.parametrize("command", PRETRAININGS)
def test_pretraining_writes_neither_into_its_input_nor_over_another_model(refused, tmp_path, command, output):
    for folder in ("texts", "start/text_encoder", "teacher", "finished/unet", "finished/text_encoder"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "texts")
    (tmp_path / "notes.txt").write_text("mine")
    refused(command, *PRETRAININGS[command], "-o", output)
    if command == "distil-text":
        refused(command, *PRETRAININGS[command], "-o", "teacher")


@pytest.mark.parametrize("output", ["encoder", "unet.pt", "."])
def test_conversion_does_not_write_into_its_input(refused, tmp_path, output):
    (tmp_path / "encoder").mkdir()
    for file in ("unet.pt", "head.pth", "encoder/config.json"):
        (tmp_path / file).write_text("{}")
    refused("convert", "--denoiser", "unet.pt", "--head", "head.pth", "--text-encoder", "encoder", "-o", output)


class Stopping:
    """Renames files as the system does, except that one call fails."""

    def __init__(self, monkeypatch, failing_call, error):
        self.calls, self.failing_call, self.error = 0, failing_call, error
        for name in ("replace", "rename"):
            monkeypatch.setattr(Path, name, self.in_place_of(getattr(Path, name)))

    def in_place_of(self, real):
        def call(path, target):
            self.calls += 1
            if self.calls == self.failing_call:
                raise self.error
            return real(path, target)

        return call


def write_both(folder):
    with whole_files(folder / "a", folder / "b") as temporary:
        for path in temporary:
            path.write_text("new")


LOCKED = PermissionError(13, "The process cannot access the file because it is being used by another process")


@pytest.mark.parametrize("error", [LOCKED, KeyboardInterrupt()])
@pytest.mark.parametrize("failing_call", [1, 2, 3, 4])
@pytest.mark.parametrize("existing", [("a", "b"), ("a",), ("b",), ()])
def test_of_two_outputs_both_earlier_ones_are_kept_if_one_cannot_be_renamed(
    tmp_path, monkeypatch, existing, failing_call, error
):
    for name in existing:
        (tmp_path / name).write_text("earlier")
    stopping = Stopping(monkeypatch, failing_call, error)
    done = False
    try:
        write_both(tmp_path)
        done = True
    except (FastTextDiffError, KeyboardInterrupt):
        pass
    assert done == (failing_call > 2 + len(existing))
    expected = dict.fromkeys("ab", "new") if done else dict.fromkeys(existing, "earlier")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == expected
    assert stopping.calls >= min(failing_call, 2 + len(existing))


def test_the_file_that_cannot_be_replaced_is_named(tmp_path, monkeypatch):
    (tmp_path / "b").write_text("open elsewhere")
    Stopping(monkeypatch, 1, PermissionError(13, "Permission denied", str(tmp_path / "b")))
    with pytest.raises(FastTextDiffError, match=r"cannot write \S*/b: permission denied"):
        write_both(tmp_path)


def test_an_empty_output_folder_is_still_there_after_a_failure(tmp_path, monkeypatch):
    (tmp_path / "report").mkdir()
    Stopping(monkeypatch, 1, LOCKED)
    with pytest.raises(FastTextDiffError, match="cannot write"), whole_folder(tmp_path / "report") as temporary:
        (temporary / "page").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["report"]

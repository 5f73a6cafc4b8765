"""The engine's process, used like 3D Slicer does: JSON lines over pipes, arrays in files."""

import gc
import json
import math
import os
import queue
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_files import write_slice
from PIL import Image

from fasttextdiff import FastTextDiffPipeline, Segmenter, read_volume
from fasttextdiff.contract import messages
from fasttextdiff.contract.requests import CloseVolume, Open, Segment
from fasttextdiff.errors import Cancelled, DeviceMemoryError
from fasttextdiff.io.dicom_pixels import itk_ijk_to_ras
from fasttextdiff.io.read import decoded_from_memory, volume_from
from fasttextdiff.model.info import BUNDLED_MODEL
from fasttextdiff.segments.tags import segment_tags
from fasttextdiff.worker import jobs as worker_jobs
from fasttextdiff.worker.jobs import TOO_SMALL_GPU, Jobs

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "samples"
PATIENCE = 600
"""Seconds after which an answer counts as missing, even on a busy machine."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Process:
    """A worker's process; `ask` sends a request and returns its answer."""

    def __init__(self, *command, path=None):
        paths = os.pathsep.join(filter(None, (path and str(path), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": paths}
        command = [sys.executable, *(command or ("-m", "fasttextdiff", "worker"))]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        self.ids = iter(range(1, 10**6))
        self.lines = queue.SimpleQueue()
        threading.Thread(target=lambda: [self.lines.put(line) for line in self.process.stdout], daemon=True).start()
        self.errors = []
        self.reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self.reader.start()
        self.hello = self.next()

    def next(self):
        return json.loads(self.lines.get(timeout=PATIENCE))

    def write(self, line):
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def send(self, op, **fields):
        number = next(self.ids)
        self.write(json.dumps({"id": number, "op": op, **fields}).encode())
        return number

    def until(self, number, event):
        """The next message with an event for a request; skips all others."""
        while True:
            message = self.next()
            if (message["id"], message["event"]) == (number, event):
                return message

    def ask(self, op, **fields):
        number = self.send(op, **fields)
        while (message := self.next())["event"] == "progress" or message["id"] != number:
            pass
        return message

    def close(self):
        self.process.stdin.close()
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code


@pytest.fixture(scope="module")
def worker():
    process = Process()
    assert process.ask("open", model=None, device="cpu")["event"] == "done"
    yield process
    process.close()


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(device="cpu")


@pytest.fixture
def tiny_jobs(monkeypatch, model):
    """Jobs in this process with a random model on the CPU, and their segmenter."""
    made = []

    class Recorded(Segmenter):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            made.append(self)

    monkeypatch.setattr(worker_jobs, "Segmenter", Recorded)
    jobs = Jobs()
    jobs.open(Open(model, "cpu", "torch"))
    return jobs, made[-1]


@pytest.fixture
def output(tmp_path):
    (tmp_path / "output").mkdir()
    return tmp_path / "output"


def volume_request(folder, array, ijk_to_ras=LPS, **fields):
    """The fields of an "open_volume" request for an array, with its voxels in a file."""
    file = folder / f"{len(list(folder.iterdir()))}.raw"
    np.ascontiguousarray(array).tofile(file)
    given = {
        "volume": "v",
        "voxels": {"file": str(file), "dtype": array.dtype.name, "shape": list(array.shape)},
        "ijk_to_ras": np.asarray(ijk_to_ras, float).ravel().tolist(),
    }
    return {**given, **fields}


def done(jobs, op, **fields):
    """The fields of the answer to a request to jobs in this process."""
    return messages.event_fields(1, jobs.do(messages.request_of({"op": op, **fields}), lambda *_: True))


def as_slicer_loads_it(path):
    """The array and matrix that ITK, and so 3D Slicer, reads from a file or DICOM folder, and the (first) file."""
    if path.is_dir():
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
        image = sitk.ReadImage(names)
        path = Path(names[0])
    else:
        image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    return (array[np.newaxis] if image.GetDimension() == 2 else array), itk_ijk_to_ras(image), path


def mapped(array):
    return np.memmap(array["file"], dtype=array["dtype"], mode="r", shape=tuple(array["shape"]))


def chest_ct(folder):
    array, matrix, path = as_slicer_loads_it(SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz")
    return volume_request(folder, array, matrix, path=str(path), volume="chest")


# --- the same image through Slicer's memory and through the command line's reader -------------------------------------


def x_ray(_):
    return SAMPLES / "cxr_hannover" / "18017511.png"


def histology(_):
    return SAMPLES / "histology" / "4d14a3629b6af6de.png"


def inverted_x_ray(folder):
    """A MONOCHROME1 radiograph without a position."""
    pixels = 255 - np.asarray(Image.open(x_ray(folder)).convert("L").resize((300, 280)))
    unplaced = dict.fromkeys(("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))
    return write_slice(folder / "film.dcm", pixels, Modality="DX", PhotometricInterpretation="MONOCHROME1", **unplaced)


def chest_nifti(_):
    return SAMPLES / "chest_ct" / "chest_ct_cropped.nii.gz"


def dicom_series(_):
    return SAMPLES / "abdominal_ct_dicom"


@pytest.mark.parametrize(
    ("make", "finding", "slices"),
    [
        (x_ray, "left lung", (0, 1)),
        (histology, "cell nuclei", (0, 1)),
        (inverted_x_ray, "right lung", (0, 1)),
        (chest_nifti, "left lung", (70, 72)),
        (dicom_series, "lung", (3, 5)),
    ],
)
def test_slicers_memory_and_the_command_lines_reader_give_equal_bits(
    worker, segmenter, tmp_path, output, make, finding, slices
):
    path = make(tmp_path)
    array, matrix, file = as_slicer_loads_it(path)
    said = worker.ask("open_volume", **volume_request(tmp_path, array, matrix, path=str(file), name="An image"))
    answer = worker.ask("segment", volume="v", findings=[finding], slices=slices, output=str(output))
    volume = read_volume(path)
    expected = segmenter.segment(volume, [finding], slices=slices)
    found = answer["findings"][0]
    part = slice(*slices)
    assert (said["modality"], said["planar"]) == (volume.modality.value, volume.is_planar)
    assert np.array_equal(mapped(found["probability"]), expected.probability[finding][part])
    assert np.array_equal(mapped(found["mask"]), expected.mask[finding][part])
    assert np.ptp(expected.probability[finding][part]) > 0
    assert np.array_equal(np.float32(found["presence"]), expected.presence[finding][part])


@pytest.mark.parametrize(
    ("shape", "fields", "modality", "planar"),
    [
        ((1, 20, 20), {"dicom_modality": "CR"}, "xray", True),
        ((1, 20, 20), {"dicom_modality": "CT"}, "ct", False),
        ((9, 20, 20), {"dicom_modality": "MR"}, "mr", False),
        ((1, 20, 20), {"path": "/gone/knee.jpeg"}, "other", True),
        ((9, 20, 20), {"path": "/gone/stack.tif"}, "other", False),
        ((1, 20, 20, 3), {}, "other", True),
        ((1, 20, 20), {"dicom_modality": "CR", "modality": "mr"}, "mr", True),
        ((1, 20, 20, 1), {"path": "/gone/grey.png"}, "other", True),
    ],
)
def test_without_its_file_an_image_is_known_by_dicom_modality_name_and_voxels(
    worker, tmp_path, shape, fields, modality, planar
):
    voxels = np.linspace(0, 255, math.prod(shape)).reshape(shape).astype(np.uint8)  # a ramp is of no kind
    if modality == "ct":  # in Hounsfield units
        voxels = voxels.astype(np.int16) * 8 - 1000
    said = worker.ask("open_volume", **volume_request(tmp_path, voxels, **fields))
    assert (said["volume"], said["modality"], said["planar"]) == ("v", modality, planar)
    assert (said["window"] is None) == (len(shape) == 4 and shape[3] == 3)


def test_colour_with_alpha_or_sixteen_bits_is_converted_like_a_picture_file(tmp_path):
    picture = Image.open(histology(None)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.save(tmp_path / "see-through.png")
    array, matrix, path = as_slicer_loads_it(tmp_path / "see-through.png")
    expected = read_volume(path)
    for voxels in (array, array.astype(np.uint16) * 257):
        volume = volume_from(decoded_from_memory(voxels, matrix, name="An image", path=path), None)
        assert np.array_equal(volume.array, expected.array)
        assert (volume.modality, volume.is_planar) == (expected.modality, True)
        assert np.array_equal(volume.ijk_to_ras, expected.ijk_to_ras)


# --- segmentation ----------------------------------------------------------------------------------------------------


def test_several_findings_samples_and_tags_equal_the_command_lines(worker, segmenter, tmp_path, output):
    worker.ask("open_volume", **chest_ct(tmp_path))
    findings = ["left lung", "a | in the\tright  lung", "left lung"]
    request = {"slices": [70, 71], "samples": 2, "seed": 5, "threshold": 0.25}
    answer = worker.ask("segment", volume="chest", findings=findings, output=str(output), **request)
    volume = read_volume(chest_nifti(None))
    texts = ["left lung", "a | in the right lung"]
    expected = segmenter.segment(volume, texts, slices=(70, 71), samples=2, seed=5, threshold=0.25)
    assert (answer["slices"], answer["window"]) == ([70, 71], [-400.0, 1200.0])
    for found, wanted in zip(answer["findings"], expected.findings, strict=True):
        tags = segment_tags(wanted, expected.provenance)
        assert found["terminology"] == tags.pop("TerminologyEntry")
        made = {"FastTextDiff.Created", "FastTextDiff.Presence"}
        assert {k: v for k, v in found["tags"].items() if k not in made} == {
            k: v for k, v in tags.items() if k not in made
        }
        assert found["threshold"] == 0.25
        assert found["warnings"] == list(wanted.warnings)


def test_another_finding_on_a_cached_slice_gives_the_bits_of_an_uncached_one(worker, segmenter, tmp_path, output):
    worker.ask("open_volume", **chest_ct(tmp_path))
    for finding in ("right lung", "infection"):
        answer = worker.ask("segment", volume="chest", findings=[finding], slices=[50, 51], output=str(output))
    found = segmenter.segment(read_volume(chest_nifti(None)), ["infection"], slices=(50, 51))
    assert np.array_equal(mapped(answer["findings"][0]["probability"]), found.probability["infection"][50:51])


def test_a_cancelled_job_leaves_no_file_and_the_next_one_works(worker, tmp_path, output):
    worker.ask("open_volume", **chest_ct(tmp_path))
    job = worker.send("segment", volume="chest", findings=["left lung"], output=str(output))
    waiting = worker.send("segment", volume="chest", findings=["left lung"], output=str(output))
    first = worker.until(job, "progress")
    assert 0 < first["done"] < first["total"]
    for target in (waiting, job):
        worker.send("cancel", target=target)
    worker.until(job, "cancelled")
    worker.until(waiting, "cancelled")
    assert list(output.iterdir()) == []
    answer = worker.ask("segment", volume="chest", findings=["left lung"], slices=[60, 61], output=str(output))
    assert mapped(answer["findings"][0]["mask"]).any()


def test_findings_are_checked_while_a_job_runs(worker, tmp_path, output):
    worker.ask("open_volume", **chest_ct(tmp_path))
    job = worker.send("segment", volume="chest", findings=["left lung"], output=str(output))
    worker.until(job, "progress")
    texts = ["GGO in the left lung", "pneumothorax", " ", "肺"]
    question = worker.send("check_findings", model=None, findings=texts, modality="ct")
    answer = worker.until(question, "done")  # skips only progress, since the job is not cancelled yet
    worker.send("cancel", target=job)
    worker.until(job, "cancelled")
    warnings = [finding["warning"] for finding in answer["findings"]]
    for warning, word in zip(warnings, ("", "was not taught", "empty", "Latin"), strict=True):
        assert word in warning
    assert not warnings[0]
    assert answer["findings"][0]["finding"] == "GGO in the left lung"


def test_a_closed_volume_and_the_oldest_of_many_are_dropped(worker, tmp_path, output):
    voxels = np.random.default_rng(0).integers(-1000, 400, (1, 32, 32)).astype(np.int16)
    for name in "abcde":
        worker.ask("open_volume", **volume_request(tmp_path, voxels, volume=name, modality="ct"))
    worker.ask("close_volume", volume="e")
    answers = [worker.ask("segment", volume=name, findings=["lung"], output=str(output)) for name in "abe"]
    assert [answer["event"] for answer in answers] == ["error", "done", "error"]
    assert "no volume 'e'" in answers[2]["message"]


def test_a_gpu_with_too_little_memory_is_replaced_by_the_cpu(tiny_jobs, tmp_path, output, monkeypatch):
    jobs, small = tiny_jobs
    voxels = np.random.default_rng(0).integers(-1000, 400, (3, 40, 30)).astype(np.int16)
    done(jobs, "open_volume", **volume_request(tmp_path, voxels, modality="ct"))
    request = {"volume": "v", "findings": ["consolidation"], "output": str(output)}
    expected = mapped(done(jobs, "segment", **request)["findings"][0]["probability"]).copy()
    small.runtime.device = "cuda:0"

    def fail(*_, **__):
        raise DeviceMemoryError("cuda:0 has too little memory for one slice")

    monkeypatch.setattr(small, "decode_slices", fail)
    answer = done(jobs, "segment", **request)
    assert answer["notes"] == [TOO_SMALL_GPU]
    np.testing.assert_allclose(mapped(answer["findings"][0]["probability"]), expected, atol=1e-3)
    assert done(jobs, "segment", **request)["notes"] == []


def test_a_slice_is_cancelled_before_it_is_done(tiny_jobs, tmp_path, output):
    jobs, segmenter = tiny_jobs
    voxels = np.random.default_rng(0).integers(-1000, 400, (1, 40, 30)).astype(np.int16)
    done(jobs, "open_volume", **volume_request(tmp_path, voxels, modality="ct"))
    passes, told = [], []
    segmenter.pipeline.denoiser.register_forward_hook(lambda *_: passes.append(1))
    request = Segment("v", ("consolidation",), output, slices=(0, 1))
    with pytest.raises(Cancelled):
        jobs.do(request, lambda *_: told.append(1) or True, lambda: False)
    assert (passes, told, list(output.iterdir())) == ([], [], [])


# --- looking ahead ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scrolled(tiny_jobs, tmp_path, output):
    """Jobs with a volume of 6 slices, `show(k)` to ask for a slice like the panel, and the denoiser's passes so far."""
    jobs, segmenter = tiny_jobs
    voxels = np.random.default_rng(0).integers(-1000, 400, (6, 40, 30)).astype(np.int16)
    done(jobs, "open_volume", **volume_request(tmp_path, voxels, modality="ct"))
    passes = []
    segmenter.pipeline.denoiser.register_forward_hook(lambda *_: passes.append(1))
    request = {"volume": "v", "findings": ["consolidation"], "output": str(output)}

    def show(first, end=None):
        passes.clear()
        return done(jobs, "segment", **request, slices=[first, end or first + 1])

    return jobs, show, passes


def test_the_neighbours_of_the_shown_slice_are_encoded_while_idle(scrolled, tiny_jobs):
    jobs, show, passes = scrolled
    fresh = mapped(show(3)["findings"][0]["probability"]).copy()
    tiny_jobs[1].cache.clear()
    show(2)
    assert [jobs.look_ahead(lambda: True) for _ in range(3)] == [True, True, False]
    assert len(passes) == 3
    assert np.array_equal(mapped(show(3)["findings"][0]["probability"]), fresh)
    assert passes == []
    jobs.look_ahead(lambda: True)
    show(4)
    assert passes == []  # after 2 and 3, the next one first
    jobs.look_ahead(lambda: True)
    show(3)
    jobs.look_ahead(lambda: True)
    show(2)
    assert passes == []


def test_there_are_no_neighbours_beyond_the_ends_or_after_a_range(scrolled):
    jobs, show, _ = scrolled
    show(0)
    assert [jobs.look_ahead(lambda: True) for _ in range(2)] == [True, False]
    show(0, 3)
    assert not jobs.look_ahead(lambda: True)


def test_looking_ahead_stops_at_once_for_a_request(scrolled):
    jobs, show, passes = scrolled
    show(2)
    asked = []
    jobs.look_ahead(lambda: asked.append(1) or len(asked) < 5)
    assert len(asked) == 5  # not a single convolution more
    assert len(passes) == 1
    assert show(3)["findings"]
    assert len(passes) == 1


def test_looking_ahead_does_not_hold_a_closed_volume(scrolled, tiny_jobs, monkeypatch):
    jobs, show, _ = scrolled
    segmenter, volumes = tiny_jobs[1], []
    decode = segmenter.decode_slices

    def noted(image, *rest, **named):
        volumes.append(weakref.ref(image.volume))
        return decode(image, *rest, **named)

    monkeypatch.setattr(segmenter, "decode_slices", noted)
    show(2)
    jobs.close_volume(CloseVolume("v"))
    assert not jobs.look_ahead(lambda: True)
    gc.collect()
    assert [volume() for volume in volumes] == [None]


def test_the_worker_looks_ahead_only_while_idle_and_survives_errors_in_it(tmp_path):
    log = tmp_path / "log"
    process = Process(
        "-c",
        with_jobs(f"""
            class Jobs:
                looks = 0
                def write(self, line):
                    with open({str(log)!r}, "a") as log: log.write(line + "\\n")
                def do(self, request, progress, go_on):
                    self.write("request")
                    return Done()
                def look_ahead(self, go_on):
                    self.looks += 1
                    self.write("look")
                    if self.looks == 1:
                        while go_on(): time.sleep(0.001)  # until the next request is in the queue
                    elif self.looks == 2:
                        raise ZeroDivisionError
                    return self.looks < 4
        """),
    )
    expected = ["request", "look", "request", "look", "request", "look", "look"]
    for count in (2, 4, len(expected)):
        assert process.ask("close_volume", volume="v")["event"] == "done"
        deadline = time.monotonic() + PATIENCE
        while len(log.read_text().split()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert process.close() == 0
    assert log.read_text().split() == expected
    assert any(b"ZeroDivisionError" in line for line in process.errors)


def test_a_result_that_cannot_be_written_completely_leaves_no_file(tiny_jobs, tmp_path, output):
    jobs, _ = tiny_jobs
    voxels = np.random.default_rng(0).integers(-1000, 400, (2, 40, 30)).astype(np.int16)
    done(jobs, "open_volume", **volume_request(tmp_path, voxels, modality="ct"))
    (output / "0-mask.raw").mkdir()  # blocks the second file
    with pytest.raises(OSError, match=r"0-mask\.raw"):
        done(jobs, "segment", volume="v", findings=["consolidation"], output=str(output))
    assert [path.name for path in output.iterdir()] == ["0-mask.raw"]


# --- what is refused -------------------------------------------------------------------------------------------------


def noise(shape, kind):
    return np.random.default_rng(0).integers(0, 200, shape).astype(kind)


def with_nan():
    voxels = noise((2, 20, 20), np.float32)
    voxels[1, 3, 4] = np.nan
    return voxels


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (with_nan(), ["An image", "1 of 800 voxels are NaN"]),
        (noise((1, 20, 20, 5), np.uint8), ["An image", "5 values per voxel"]),
        (noise((2, 20, 20, 3), np.float32), ["An image", "3 values per voxel (float32)"]),
        (np.zeros((0, 20, 20), np.int16), ["empty"]),
        (np.full((2, 20, 20), 7, np.int16), ["An image", "all voxels are 7"]),
        (noise((2, 4, 90), np.int16), ["An image", "too small"]),
    ],
)
def test_an_image_that_cannot_be_segmented_is_refused_in_one_line(worker, tmp_path, voxels, words):
    answer = worker.ask("open_volume", **volume_request(tmp_path, voxels, name="An image"))
    assert (answer["event"], answer["kind"]) == ("error", "image")
    assert "\n" not in answer["message"]
    assert all(word in answer["message"] for word in words), answer["message"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"{broken", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[1, 2]", "JSON"),
        (b'{"op": "open"}', "integer 'id'"),
        (b'{"id": 900001, "op": "dance"}', "no operation 'dance'"),
        (b'{"id": 900002, "op": ["open"]}', "no operation"),
        (b'{"id": 900003, "op": "segment", "volume": "w", "findings": ["lung"], "output": "/"}', "no volume 'w'"),
        (b'{"id": 900004, "op": "segment"}', "segment: 'volume' is missing"),
        (
            b'{"id": 900005, "op": "open_volume", "volume": "v", "voxels": 5, "ijk_to_ras": []}',
            "'voxels' must be an object",
        ),
        (b'{"id": 900005, "op": "open_volume", "volume": "v", "ijkToRas": []}', "no field 'ijkToRas'"),
        (b'{"id": 900006, "op": "check_findings", "model": null, "findings": [], "modality": null}', "no finding"),
        (
            b'{"id": 900007, "op": "check_findings", "model": null, "findings": [3], "modality": null}',
            "'findings[0]' must be a text",
        ),
        (b'{"id": 900008, "op": "check_findings", "model": null, "findings": ["a"], "modality": "pet"}', "not a mod"),
        (b'{"id": 900009, "op": "cancel"}', "'target'"),
        (b'{"id": 900010, "op": "open", "model": null, "device": "toaster"}', "not a device"),
        (
            b'{"id": 900011, "op": "segment", "volume": "v", "findings": [], "output": "/", "seed": 1e9}',
            "whole number",
        ),
    ],
)
def test_an_invalid_request_is_answered_and_the_worker_continues(worker, line, word):
    worker.write(line)
    answer = worker.next()
    assert (answer["event"], answer["kind"]) == ("error", "usage")
    assert word in answer["message"]
    assert worker.ask("cancel", target=0)["event"] == "done"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"slices": [0, 3]}, "slices 0:3"),
        ({"slices": [1]}, "'slices' must be a list of 2"),
        ({"findings": [" "]}, "empty"),
        ({"threshold": 2}, "threshold"),
        ({"samples": 0}, "samples"),
        ({"output": "/not/there"}, "/not/there"),
    ],
)
def test_an_impossible_segmentation_is_refused(worker, tmp_path, output, change, word):
    worker.ask("open_volume", **volume_request(tmp_path, noise((2, 20, 20), np.int16) - 100, modality="ct"))
    answer = worker.ask("segment", **{"volume": "v", "findings": ["lung"], "output": str(output), **change})
    assert (answer["event"], answer["kind"]) == ("error", "usage")
    assert word in answer["message"]


def test_a_volume_file_of_another_size_than_announced_is_refused(worker, tmp_path):
    request = volume_request(tmp_path, noise((2, 20, 20), np.int16))
    for change in ({"shape": [3, 20, 20]}, {"file": "/not/there.raw"}, {"dtype": "object"}, {"dtype": "(2,"}):
        voxels = {**request["voxels"], **change}
        assert worker.ask("open_volume", **{**request, "voxels": voxels})["kind"] == "usage"
    assert worker.ask("open_volume", **{**request, "ijk_to_ras": [1.0] * 15})["kind"] == "usage"
    singular = worker.ask("open_volume", **{**request, "ijk_to_ras": [0.0] * 16})
    assert (singular["kind"], "4x4" in singular["message"]) == ("image", True)


def test_a_broken_model_folder_is_reported_and_the_current_model_is_kept(worker, tmp_path, output):
    shutil.copytree(BUNDLED_MODEL, tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    content = index.read_text(encoding="utf-8")
    index.write_text(content[:-30], encoding="utf-8")
    for folder, word in ((tmp_path / "model", "model_index.json"), (tmp_path / "nowhere", "no model folder")):
        checked = {"findings": ["lung"], "modality": None}
        for op, fields in (("describe_model", {}), ("check_findings", checked), ("open", {"device": "cpu"})):
            answer = worker.ask(op, model=str(folder), **fields)
            assert (answer["event"], answer["kind"], word in answer["message"]) == ("error", "model", True)
    worker.ask("open_volume", **volume_request(tmp_path, noise((1, 20, 20), np.int16) - 100, modality="ct"))
    assert worker.ask("segment", volume="v", findings=["lung"], output=str(output))["event"] == "done"


def test_after_damaged_weights_the_bundled_model_can_be_opened_again(worker, tmp_path, output):
    shutil.copytree(BUNDLED_MODEL, tmp_path / "model")
    weights = tmp_path / "model" / "fusion" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    worker.ask("open_volume", **volume_request(tmp_path, noise((1, 20, 20), np.int16) - 100, modality="ct"))
    request = {"volume": "v", "findings": ["lung"], "output": str(output)}
    answer = worker.ask("open", model=str(tmp_path / "model"), device="cpu")
    assert (answer["kind"], "fusion" in answer["message"]) == ("model", True)
    assert "send 'open'" in worker.ask("segment", **request)["message"]
    opened = worker.ask("open", model=None, device="cpu")
    assert (opened["device"], opened["notes"]) == ("cpu", [])
    assert worker.ask("describe_model", model=None)["licence"] == "CC-BY-NC-SA-4.0"
    [found] = worker.ask("segment", **request)["findings"]
    assert found["tags"]["FastTextDiff.WeightsSha256"] == FastTextDiffPipeline.from_pretrained().info.weights_sha256


# --- the process -----------------------------------------------------------------------------------------------------


IDLE = """
class Jobs:
    def do(self, request, progress, go_on): return Done()
    def look_ahead(self, go_on): return False
"""


def with_jobs(classes):
    """A program that serves with these jobs instead of the real ones, without importing any package."""
    return f"""
import sys, threading, time, types
from fasttextdiff import environment
from fasttextdiff.contract.answers import Done
from fasttextdiff.worker import server
{textwrap.dedent(classes)}
environment.require_packages = lambda: None
sys.modules["fasttextdiff.worker.jobs"] = types.SimpleNamespace(Jobs=Jobs)
server.main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal for one process")
def test_ctrl_c_in_slicers_terminal_does_not_end_the_worker():
    process = Process("-c", with_jobs(IDLE))
    process.process.send_signal(signal.SIGINT)
    answer = process.ask("close_volume", volume="v")  # the signal would have ended the thread that does jobs
    assert answer["event"] == "done"
    assert process.close() == 0


def test_a_job_number_is_free_before_its_answer_is_sent():
    slow_channel = """
class Channel(server.Channel):
    taken = threading.Event()
    def send(self, number, message):
        super().send(number, message)
        if number == 1:
            self.taken.wait(60)  # after the answer to 1, until the reader has taken two more lines
        elif number == 2:
            self.taken.set()
server.Channel = Channel
"""
    process = Process("-c", with_jobs(IDLE + slow_channel))
    assert process.ask("close_volume", volume="v") == {"id": 1, "event": "done"}
    process.write(b'{"id": 1, "op": "close_volume", "volume": "v"}')
    process.write(b'{"id": 2, "op": "cancel", "target": 9}')
    assert [process.next() for _ in range(2)] == [{"id": 2, "event": "done"}, {"id": 1, "event": "done"}]
    assert process.close() == 0


def test_output_of_libraries_does_not_reach_the_stream():
    noisy = (
        "import os; from fasttextdiff.worker import questions, server\n"
        "def shout(_):\n"
        "    print('stray', flush=True); os.write(1, b'stray\\n'); os.system('echo stray'); return server.Done()\n"
        "questions.QUESTIONS[questions.DescribeModel] = shout; server.main()"
    )
    process = Process("-c", noisy)
    assert process.ask("describe_model", model=None) == {"id": 1, "event": "done"}
    assert process.close() == 0


def test_closing_its_input_ends_the_process_in_the_middle_of_a_job():
    endless = """
class Jobs:
    def do(self, request, progress, go_on): progress(1, 2); time.sleep(1000)
    def look_ahead(self, go_on): return False
"""
    process = Process("-c", with_jobs(endless))
    process.until(process.send("close_volume", volume="v"), "progress")
    assert process.close() == 0


def test_the_worker_starts_and_says_what_is_wrong_where_packages_are_broken(tmp_path):
    trouble_of = {
        "openvino": "OSError('libopenvino.so: cannot open')",
        "torch": "ImportError('half')",
        "typer": "ImportError('gone')",
    }
    for package, trouble in trouble_of.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise {trouble}\n")
    process = Process(path=tmp_path)
    assert (process.hello["event"], process.hello["protocol"]) == ("hello", messages.PROTOCOL)
    report = process.ask("check_environment")
    assert [package["requirement"] for package in report["packages"] if package["problem"]] == ["openvino>=2025.4"]
    openvino = next(package for package in report["packages"] if package["name"] == "openvino")
    assert "libopenvino.so: cannot open" in openvino["problem"]
    assert [device["id"] for device in report["devices"]] == ["cpu"]
    [checked] = process.ask("check_findings", model=None, findings=["left lung"], modality=None)["findings"]
    assert checked == {"finding": "left lung", "warning": "", "quality": "", "weak": False, "learned": ""}
    refused = process.ask("open", model=None, device="cpu")
    assert refused["kind"] == "missing"
    assert '"openvino>=2025.4"' in refused["message"]
    assert process.close() == 0

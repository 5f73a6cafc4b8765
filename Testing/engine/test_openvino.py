"""OpenVINO gives the masks of PyTorch without loading it, sends nothing, and is given up where it does not work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_models import one_line, tiny_pipeline

from fasttextdiff import Modality, Segmenter, Volume, read_volume
from fasttextdiff.environment import openvino_core
from fasttextdiff.errors import Cancelled, FastTextDiffError, MissingPackagesError, ModelError, UsageError
from fasttextdiff.image.preprocessing import Fit
from fasttextdiff.image.slices import FREQUENT
from fasttextdiff.model import runtimes
from fasttextdiff.model.openvino import networks, self_check, store, writing
from fasttextdiff.model.openvino import runtime as runtime_module
from fasttextdiff.model.openvino.package import FORMAT, RECORD
from fasttextdiff.model.places import hash_weights, networks_hash
from fasttextdiff.model.runtimes import convert_folder, load_runtime
from fasttextdiff.model.settings import read_settings
from fasttextdiff.model.tokens import Tokens

FINDINGS = ["consolidation", "liver", "left lung"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv(store.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The folder of a random model, with its converted networks."""
    folder = tmp_path_factory.mktemp("converted")
    tiny_pipeline().save_pretrained(folder)
    convert_folder(folder)
    return folder


def ct(shape=(3, 40, 30)):
    voxels = np.random.default_rng(1).integers(-1000, 400, shape).astype(np.int16)
    return Volume(voxels, np.diag([-1.0, -1.0, 2.0, 1.0]), Modality.CT)


def require_same(ours, theirs, difference=1e-3):
    for a, b in zip(ours.findings, theirs.findings, strict=True):
        np.testing.assert_allclose(a.probability, b.probability, atol=difference)
        np.testing.assert_allclose(a.presence, b.presence, atol=difference)
        assert a.probability.std() > 0


@pytest.mark.parametrize("shape", [(3, 40, 30), (2, 30, 40), (1, 64, 64), (2, 20, 90)])
def test_a_random_model_gives_the_results_of_torch_on_any_size(converted, shape):
    ours, theirs = (Segmenter(converted, "cpu", "float32", runtime=name) for name in ("openvino", "torch"))
    assert (ours.runtime.name, theirs.runtime.name) == ("openvino", "torch")
    volume = ct(shape)
    require_same(*(who.segment(volume, FINDINGS, samples=2, seed=5) for who in (ours, theirs)))


@pytest.mark.parametrize(
    ("image", "findings"),
    [
        ("cxr_hannover/18017511.png", ["left lung", "heart", "infection"]),
        ("histology/4d14a3629b6af6de.png", ["nuclei"]),
    ],
)
def test_the_bundled_model_gives_the_masks_of_torch(samples, image, findings):
    volume = read_volume(samples / image)
    ours, theirs = (
        Segmenter(device="cpu", dtype="float32", runtime=name).segment(volume, findings)
        for name in ("openvino", "torch")
    )
    require_same(ours, theirs)
    for a, b in zip(ours.findings, theirs.findings, strict=True):
        assert 2 * (a.mask & b.mask).sum() >= 0.999 * (a.mask.sum() + b.mask.sum())
    assert ours.provenance.runtime.startswith("openvino 20")
    assert theirs.provenance.runtime.startswith("torch ")


def test_the_dtype_of_auto_gives_the_masks_of_float32(samples):
    volume = read_volume(samples / "cxr_hannover" / "1d40779e.png")  # its infection is large
    findings = ["left lung", "heart", "infection"]
    auto, plain = (Segmenter(device="cpu", dtype=dtype, runtime="openvino") for dtype in ("auto", "float32"))
    assert auto.runtime.dtype == ("bfloat16" if has_bfloat16() else "float32")
    for a, b in zip(*(who.segment(volume, findings).findings for who in (auto, plain)), strict=True):
        assert 2 * (a.mask & b.mask).sum() >= 0.99 * (a.mask.sum() + b.mask.sum())


def has_bfloat16():
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize(("capabilities", "dtype"), [(["FP32", "BF16"], "bfloat16"), (["FP32", "INT8"], "float32")])
def test_bfloat16_is_used_where_the_processor_has_it(capabilities, dtype):
    core = SimpleNamespace(get_property=lambda *_: capabilities)
    assert runtime_module.fast_dtype(core, "cpu") == dtype
    assert runtime_module.fast_dtype(core, "gpu") == "float32"  # not compared there
    if dtype == "bfloat16":
        assert runtime_module.choose_dtype(core, "cpu", "bfloat16") == "bfloat16"
    else:
        with pytest.raises(UsageError, match="no instructions for bfloat16: use --dtype float32"):
            runtime_module.choose_dtype(core, "cpu", "bfloat16")


def test_a_dtype_that_answers_wrongly_here_is_replaced_by_float32(converted, monkeypatch):
    monkeypatch.setattr(runtime_module, "fast_dtype", lambda *_: "float16")
    monkeypatch.setattr(self_check, "problem", lambda runtime, _: "" if runtime.dtype == "float32" else "wrong")
    runtime = load_runtime(converted, "cpu")
    assert (runtime.name, runtime.dtype) == ("openvino", "float32")
    with pytest.raises(ModelError, match="correctly"):
        load_runtime(converted, "cpu", "float16", "openvino")


def test_a_hit_of_the_cache_and_other_findings_change_no_bit(converted):
    segmenter = Segmenter(converted, "cpu", runtime="openvino")
    alone = segmenter.segment(ct(), FINDINGS[:1]).probability[FINDINGS[0]]
    assert segmenter.cache.used > 0
    assert np.array_equal(segmenter.segment(ct(), FINDINGS).probability[FINDINGS[0]], alone)
    again = Segmenter(converted, "cpu", cache_bytes=0, runtime="openvino")
    assert np.array_equal(again.segment(ct(), FINDINGS[:1]).probability[FINDINGS[0]], alone)


LONG = "bilateral pulmonary infection, two infected areas, upper left lung and middle lower right lung"
"""More tokens than a decoder for one size of images takes."""


def test_many_slices_of_one_size_have_networks_of_their_own_with_the_results_of_torch(converted):
    ours, theirs = (Segmenter(converted, "cpu", "float32", runtime=name) for name in ("openvino", "torch"))
    volumes = [ct((FREQUENT, 40 - n, 30)) for n in (0, 8, 16, 0)]  # more sizes than are kept, and the first one again
    assert all(ours.prepare(volume).fit.is_frequent for volume in volumes)
    assert not ours.prepare(ct((FREQUENT - 1, 40, 30))).fit.is_frequent
    assert len(ours.runtime.text([LONG]).mask[0]) > runtime_module.FEW_WORDS
    asked = [FINDINGS[0], LONG]
    found = [ours.segment(volume, asked, slices=(3, 5)) for volume in volumes]
    for volume, one in zip(volumes, found, strict=True):
        require_same(one, theirs.segment(volume, asked, slices=(3, 5)))
    first, *_, again = (one.probability[FINDINGS[0]] for one in found)
    assert np.array_equal(first, again)
    fresh = Segmenter(converted, "cpu", "float32", runtime="openvino")
    assert np.array_equal(fresh.segment(volumes[0], FINDINGS[:1], slices=(3, 5)).probability[FINDINGS[0]], first)


def test_texts_are_tokenized_as_in_training(converted):
    pipeline, settings = tiny_pipeline(), read_settings(converted)
    tokens = Tokens(converted / "tokenizer" / "tokenizer.json", settings.max_tokens)
    for text in ("", "left lung", "  Ground-Glass   opacity, RLL!", "ödem (μm) " * 3):
        assert tokens.ids(text) == pipeline.text_encoder.tokenize([text])["input_ids"][0].tolist()
    assert settings.multiple == pipeline.denoiser.multiple
    for check in (tokens.check, pipeline.text_encoder.check):
        with pytest.raises(UsageError) as caught:
            check("opacity " * 200)
        one_line(caught, "tokens, the model reads 96")


def test_an_image_in_work_is_stopped_and_the_next_one_is_right(converted):
    runtime = Segmenter(converted, "cpu", runtime="openvino").runtime
    pixels = np.random.default_rng(0).random((256, 256), np.float32)
    fit = Fit.of(pixels.shape, (1, 1), 1024, runtime.settings.multiple)
    asked = []
    with pytest.raises(Cancelled), runtime.interruptible(lambda: bool(asked.append(1)) or len(asked) < 2):
        runtime.maps([pixels], fit, 0)
    assert len(asked) == 2  # before it began, and while it ran
    small = Fit.of(pixels.shape, (1, 1), 64, runtime.settings.multiple)
    fresh = Segmenter(converted, "cpu", runtime="openvino").runtime
    for a, b in zip(runtime.maps([pixels], small, 0)[0], fresh.maps([pixels], small, 0)[0], strict=True):
        assert np.array_equal(a, b)


# --- without torch, and without a word to anybody --------------------------------------------------------------------


def python(code, **environment):
    """The last line that a process printed, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


HEAVY = "{'torch', 'diffusers', 'transformers', 'accelerate'}"


def test_a_process_that_segments_imports_no_torch_and_sends_nothing(samples, tmp_path):
    image, output = samples / "cxr_hannover" / "18017511.png", tmp_path / "lung.seg.nrrd"
    code = f"""
import json, socket, sys
opened = []
class Watched(socket.socket):
    def connect(self, address):
        opened.append(str(address))
        raise OSError("no network in this test")
socket.socket = Watched
from fasttextdiff.cli import main
sys.argv[1:] = ["segment", {str(image)!r}, "-f", "left lung", "-o", {str(output)!r}]
try:
    main()
except SystemExit as end:
    code = end.code
heavy = sorted({HEAVY} & set(sys.modules))
print(json.dumps([code or 0, heavy, opened, sys.modules.get("openvino_telemetry") is None, "openvino" in sys.modules]))
"""
    home = tmp_path / "home"
    home.mkdir()
    assert python(code, HOME=str(home)) == [0, [], [], True, True]
    assert output.is_file()
    assert not (home / "intel").exists()  # OpenVINO's telemetry would leave an identifier there


def test_the_worker_segments_without_torch(tmp_path):
    code = f"""
import json, sys
import numpy as np
from fasttextdiff.contract.requests import Open
from fasttextdiff.worker.jobs import Jobs
answer = Jobs().open(Open(None, "cpu"))
print(json.dumps([answer.runtime.split()[0], sorted({HEAVY} & set(sys.modules))]))
"""
    assert python(code) == ["openvino", []]


SEGMENT = ["segment", "x.png", "-f", "heart", "-o", "y.nii.gz"]


@pytest.mark.parametrize(
    "arguments",
    [["train", "x.yaml"], [*SEGMENT, "--runtime", "torch"], [*SEGMENT, "--adapter", "x.safetensors"]],
    ids=["train", "runtime", "adapter"],
)
def test_without_torch_the_command_line_says_in_one_line_what_to_install(tmp_path, samples, arguments):
    image = samples / "cxr_hannover" / "18017511.png"
    arguments = [str(image) if word == "x.png" else word for word in arguments]
    code = f"""
import sys
for name in ("torch", "diffusers", "transformers", "accelerate", "tensorboard"):
    sys.modules[name] = None
import fasttextdiff.environment as environment
real = environment.problem_with
environment.problem_with = lambda wanted: "torch: not installed" if wanted is environment.TORCH else real(wanted)
from fasttextdiff.cli import main
sys.argv[1:] = {arguments!r}
main()
"""
    (tmp_path / "x.yaml").write_text("name: x\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode in (1, 2)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "needs PyTorch" in last
    assert "pip install 'fasttextdiff[" in last
    assert "Traceback" not in done.stderr


# --- the choice ------------------------------------------------------------------------------------------------------


def test_a_model_in_memory_runs_with_torch(converted):
    assert load_runtime(tiny_pipeline(), "cpu").name == "torch"
    with pytest.raises(UsageError) as caught:
        load_runtime(tiny_pipeline(), "cpu", runtime="openvino")
    one_line(caught, "give its folder")


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        ({"runtime": "tensorflow"}, ("'tensorflow' is not a runtime", "auto, torch, openvino")),
        ({"runtime": 5}, ("'5' is not a runtime", "auto, torch, openvino")),
        ({"device": "tpu"}, ("'tpu' is not a device",)),
        ({"device": "cuda:x"}, ("'cuda:x' is not a device",)),
        ({"dtype": "float8"}, ("'float8' is not a dtype",)),
        ({"device": "cuda", "runtime": "openvino"}, ("openvino does not run on 'cuda'",)),
        ({"device": "npu", "runtime": "torch"}, ("torch does not run on 'npu'",)),
        ({"device": "npu"}, ("OpenVINO finds no npu here", "--device cpu")),
    ],
)
def test_a_choice_that_cannot_be_met_is_one_line(converted, request_of, words):
    with pytest.raises(UsageError) as caught:
        load_runtime(converted, **request_of)
    one_line(caught, *words)


def without(monkeypatch, *requirements):
    """As on a computer without some packages."""
    real = runtimes.problem_with
    hidden = {requirement.name for group in requirements for requirement in group}
    monkeypatch.setattr(
        runtimes,
        "problem_with",
        lambda wanted: next((f"{r.name}: not installed" for r in wanted if r.name in hidden), "") or real(wanted),
    )


def test_without_openvino_torch_is_used_and_without_both_it_is_said(converted, monkeypatch):
    without(monkeypatch, runtimes.OPENVINO)
    too_old = "openvino: not installed"  # as `without` words any problem; it is installed here, and so it is named
    runtime = load_runtime(converted, "cpu")
    assert (runtime.name, runtime.notes) == ("torch", (f"OpenVINO is not used: {too_old}",))
    with pytest.raises(MissingPackagesError) as caught:
        load_runtime(converted, runtime="openvino")
    one_line(caught, "openvino: not installed", "fasttextdiff[openvino]")
    without(monkeypatch, runtimes.OPENVINO, runtimes.TORCH)
    with pytest.raises(MissingPackagesError) as caught:
        load_runtime(converted)
    one_line(caught, "nothing can run the model", "fasttextdiff[openvino]", "fasttextdiff[torch]")


def test_without_torch_converted_models_run_and_others_say_what_to_do(converted, model, cache, tmp_path, monkeypatch):
    without(monkeypatch, runtimes.TORCH)
    assert load_runtime(converted).name == "openvino"
    for asked in ({}, {"runtime": "openvino"}):
        with pytest.raises(MissingPackagesError) as caught:
            load_runtime(model, **asked)
        one_line(caught, "tiny was not converted for OpenVINO yet", "fasttextdiff[torch]", "fasttextdiff prepare")
    damaged = shutil.copytree(converted, tmp_path / "damaged")
    (damaged / "openvino" / "decode.xml.gz").write_bytes(b"")
    with pytest.raises(MissingPackagesError) as caught:
        load_runtime(damaged)
    one_line(caught, "tiny has damaged networks for OpenVINO", "fasttextdiff[torch]")
    with pytest.raises(MissingPackagesError) as caught:
        load_runtime(converted, runtime="torch")
    one_line(caught, "this needs PyTorch", "fasttextdiff[torch]")
    with pytest.raises(MissingPackagesError) as caught:
        convert_folder(model)
    one_line(caught, "converting needs OpenVINO and PyTorch")


def test_a_computer_on_which_openvino_is_wrong_uses_torch_and_says_so(model, cache, monkeypatch):
    assert load_runtime(model, "cpu").name == "openvino"
    record = next(cache.glob(f"*/{RECORD}"))
    content = json.loads(record.read_text())
    content["check"]["odds"] = (-np.array(content["check"]["odds"])).tolist()
    record.write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        load_runtime(model, "cpu", runtime="openvino")
    one_line(caught, "does not compute tiny correctly on this computer")
    runtime = load_runtime(model, "cpu")
    assert runtime.name == "torch"
    assert "OpenVINO is not used" in runtime.notes[0]


def test_what_has_passed_is_not_checked_at_every_start(model, cache, monkeypatch):
    checked, problem = [], self_check.problem
    monkeypatch.setattr(self_check, "problem", lambda *asked: checked.append(asked) or problem(*asked))
    assert [load_runtime(model, "cpu", "float32").name for _ in range(2)] == ["openvino"] * 2
    assert len(checked) == 1
    load_runtime(model, "cpu", "float16")
    assert len(checked) == 2


def test_a_model_that_cannot_be_converted_runs_with_torch_and_says_so(model, cache, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no translation for aten::strange")

    monkeypatch.setattr(networks, "load_openvino", lambda: SimpleNamespace(convert_model=refuse))
    runtime = load_runtime(model, "cpu")
    assert runtime.name == "torch"
    assert "network cannot be converted to OpenVINO: no translation for aten::strange" in runtime.notes[0]
    assert list(cache.iterdir()) == []  # nothing half-done is left
    with pytest.raises(ModelError) as caught:
        load_runtime(model, "cpu", runtime="openvino")
    one_line(caught, "cannot be converted")


# --- the cache -------------------------------------------------------------------------------------------------------


def test_a_model_is_converted_once_and_the_cache_can_be_removed(model, cache, run):
    first = load_runtime(model, "cpu")
    (folder,) = (path for path in cache.iterdir() if path.name != "compiled")
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = load_runtime(model, "cpu")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    assert first.settings.info.weights_sha256 == again.settings.info.weights_sha256
    assert store.cache_bytes() > 10_000
    code, out, _ = run("clear-cache", with_model=False)
    assert code == 0
    assert str(cache) in out
    assert store.cache_bytes() == 0


def test_damaged_networks_are_converted_again(model, cache):
    load_runtime(model, "cpu")
    for name in (RECORD, "decode.xml.gz", "encode.bin.gz"):
        damaged = next(cache.glob(f"*/{name}"))
        damaged.write_bytes(damaged.read_bytes()[:20])
        assert load_runtime(model, "cpu", runtime="openvino").name == "openvino"
        assert damaged.stat().st_size > 20, name


def test_networks_of_other_weights_are_not_used(converted, tmp_path, cache):
    other = tmp_path / "other"
    tiny_pipeline(seed=1).save_pretrained(other)
    (other / store.SUBFOLDER).mkdir()
    for path in (converted / store.SUBFOLDER).iterdir():
        (other / store.SUBFOLDER / path.name).write_bytes(path.read_bytes())
    require_same(*(Segmenter(other, "cpu", runtime=name).segment(ct(), FINDINGS) for name in ("openvino", "torch")))


def test_networks_fit_a_checkout_with_other_ends_of_lines(model, cache, tmp_path):
    copy = tmp_path / "windows"
    shutil.copytree(model, copy)
    for path in copy.rglob("*.json"):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    weights = hash_weights(model)
    assert networks_hash(copy, weights) == networks_hash(model, weights)
    path = next(copy.glob("*/config.json"))
    path.write_text(path.read_text().replace(":", ': 1.5e-3,\n"more":', 1))
    assert networks_hash(copy, weights) != networks_hash(model, weights)


def test_a_kept_compiled_network_that_is_damaged_does_not_change_results(converted, cache):
    expected = Segmenter(converted, "cpu", "float32", runtime="openvino").segment(ct(), FINDINGS)
    blobs = list((cache / "compiled").glob("*.blob"))
    assert len(blobs) == 3
    for blob in blobs:
        blob.chmod(0o600)
        content = bytearray(blob.read_bytes())
        content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
        blob.write_bytes(content)
    require_same(Segmenter(converted, "cpu", "float32", runtime="openvino").segment(ct(), FINDINGS), expected)


def convert_in_process(model):
    return subprocess.Popen(
        [sys.executable, "-c", f"from fasttextdiff import Segmenter; Segmenter({str(model)!r}, runtime='openvino')"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def test_two_processes_that_convert_at_once_and_one_that_is_killed_leave_a_good_cache(model, cache):
    first, second = convert_in_process(model), convert_in_process(model)
    while not list(cache.glob(".*")) and first.poll() is None:  # until it has begun to write
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    first.wait()
    with ThreadPoolExecutor(1) as waiting:
        assert waiting.submit(second.wait).result() == 0, second.stderr.read()
    require_same(*(Segmenter(model, "cpu", runtime=name).segment(ct(), FINDINGS) for name in ("openvino", "torch")))


def test_a_process_whose_conversion_ends_second_uses_the_first_ones(model, cache, monkeypatch):
    write = writing.write_package

    def overtaken(pipeline, model_folder, folder, made_from):
        write(pipeline, model_folder, folder, made_from)
        shutil.copytree(folder, cache / f"{made_from}-{FORMAT}")  # as another process that ended in between

    monkeypatch.setattr(writing, "write_package", overtaken)
    assert load_runtime(model, "cpu", runtime="openvino").notes == ()
    assert [path for path in cache.iterdir() if path.name.startswith(".")] == []


def test_a_cache_that_cannot_be_written_is_one_line(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(store.CACHE_VARIABLE, str(tmp_path / "file"))
    with pytest.raises(FastTextDiffError) as caught:
        load_runtime(model, runtime="openvino")
    one_line(caught, "cannot write", "file")
    runtime = load_runtime(model, "cpu")
    assert runtime.name == "torch"
    assert "cannot write" in runtime.notes[0]


def test_prepare_makes_a_model_ready_for_computers_without_torch(tmp_path, cache, run, monkeypatch):
    folder = tmp_path / "mine"
    tiny_pipeline(seed=2).save_pretrained(folder)
    code, out, _ = run("prepare", str(folder), with_model=False)
    assert code == 0
    assert "openvino" in out
    without(monkeypatch, runtimes.TORCH)
    assert load_runtime(folder).name == "openvino"

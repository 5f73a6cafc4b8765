"""Measurements compute the same as their reference, and every figure names its reference."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import one_line, tiny_pipeline

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.read import read_volume
from fasttextdiff.model.pipeline import FastTextDiffPipeline
from fasttextdiff.segmenter import Segmenter
from fasttextdiff_lab.benchmarks.bench import Bench
from fasttextdiff_lab.benchmarks.inputs import chest_phantom
from fasttextdiff_lab.benchmarks.measuring import as_json, medians
from fasttextdiff_lab.benchmarks.references import plain_segmenter
from fasttextdiff_lab.benchmarks.suites import SUITES, compared, output_of
from fasttextdiff_lab.benchmarks.torch_suites import bytes_moved, multiply_adds
from fasttextdiff_lab.peak_memory import resident_peak


def test_the_optimised_segmenter_matches_the_plain_one():
    image = chest_phantom(2, side=64)
    fast, plain = Segmenter(tiny_pipeline(), "cpu"), plain_segmenter(tiny_pipeline(), "cpu")
    passes = []
    plain.pipeline.denoiser.unet.conv_in.register_forward_hook(lambda _, x, y: passes.append(len(y)))
    request = fast.prepare(image)
    for _ in range(2):
        assert compared(fast, plain, request)["error_to_reference"] < 1e-3  # features are kept in 16 bits
    assert passes == [1] * 8  # two answers on two slices at two timesteps, one by one


@pytest.mark.parametrize(("dtype", "presence"), [("float32", 0.002), ("bfloat16", 0.02)])
def test_the_bundled_models_masks_equal_those_of_its_reference_form(samples, dtype, presence):
    model = FastTextDiffPipeline.from_pretrained()
    fast, plain = Segmenter(model, "cpu", dtype), plain_segmenter(model, "cpu")
    for path, slices in (("chest_ct/chest_ct_cropped.nii.gz", (55, 56)), ("cxr_hannover/18017511.png", None)):
        request = fast.prepare(read_volume(samples / path), slices=slices)
        found = compared(fast, plain, request)
        assert found["dice_to_reference"] >= 0.995, path
        assert found["presence_to_reference"] <= presence, path
        answers = [s.decode_slices(request, ["left lung", "right lung"]).findings for s in (fast, plain)]
        for ours, theirs in zip(*answers, strict=True):
            assert theirs.mask.sum() > 300
            assert 2 * (ours.mask & theirs.mask).sum() >= 0.995 * (ours.mask.sum() + theirs.mask.sum()), ours.finding


def test_without_masks_no_agreement_of_masks_is_reported():
    model = FastTextDiffPipeline.from_pretrained()
    model.info = replace(model.info, threshold=0.99999)
    fast = Segmenter(model, "cpu")
    found = compared(fast, plain_segmenter(model, "cpu"), fast.prepare(chest_phantom(1, side=64)))
    assert set(found) == {"error_to_reference", "presence_to_reference"}


def test_measurements_alternate():
    order = []
    medians(lambda: order.append("a"), lambda: order.append("b"), repeats=2, warmup=1)
    assert order == ["a", "b"] * 3


def test_every_measurement_is_complete(tmp_path):
    bench = Bench(Segmenter(tiny_pipeline(), "cpu"), tiny_pipeline(), chest_phantom(1, side=64), repeats=1, slices=1)
    figures = [figure for suite in ("training", "volume", "strokes") for figure in SUITES[suite](bench)]
    about = json.loads(json.dumps(as_json(figures)))
    assert about["machine"]["cores"] == os.cpu_count()
    assert about["versions"]["torch"] == torch.__version__
    assert len(about["results"]) == 7
    for result in about["results"]:
        assert result["median"] > 0
        assert bool(result["reference"]) == (result["reference_median"] is not None)
        if result["reference"]:
            assert result["ratio"] == pytest.approx(result["reference_median"] / result["median"])


def test_the_limit_counts_multiply_adds_and_bytes_of_each_phase():
    bench = Bench(Segmenter(tiny_pipeline(), "cpu"), tiny_pipeline(), chest_phantom(1, side=64), repeats=1)
    figures = list(SUITES["limit"](bench))
    cached, cached_bytes, new, new_bytes = (float(figure.reference.split()[0]) for figure in figures)
    assert 0 <= cached < new
    assert 0 < cached_bytes < new_bytes
    factors = torch.rand(2, 20, 20)
    assert multiply_adds(lambda: factors[0] @ factors[1]) == 20**3
    assert bytes_moved(lambda: factors[0].T @ factors[1]) == 3 * 20**2 * 4  # the transposed view costs nothing


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there a process can tell")
def test_the_peak_memory_of_a_process_is_not_that_of_the_one_that_started_it():
    large = np.ones(2**28, np.uint8)
    code = "from fasttextdiff_lab.peak_memory import resident_peak; print(resident_peak())"
    assert 0 < int(output_of("-c", code)) < large.nbytes < resident_peak()


def test_the_command_writes_what_it_shows(run, tmp_path):
    path = tmp_path / "figures.json"
    code, out, _ = run("benchmark", "--suite", "text", "--repeats", "1", "--json", path)
    assert code == 0
    results = json.loads(path.read_text())["results"]
    assert results
    assert all(f"{result['name']}: {result['median']:.4g} ms" in out for result in results)
    code, _, err = run("benchmark", "--suite", "speed")
    assert code == 2
    assert err.strip().startswith("error: 'speed' is not a suite: use interactive, busy, volume")


def test_a_failed_measurement_process_is_reported_in_one_line():
    with pytest.raises(FastTextDiffError) as caught:
        output_of("-c", "raise SystemExit('no memory')")
    one_line(caught, "no memory")

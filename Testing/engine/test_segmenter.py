from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import one_line, tiny_pipeline
from torch.utils._python_dispatch import TorchDispatchMode

from fasttextdiff.errors import Cancelled, FastTextDiffError, UsageError
from fasttextdiff.image.preprocessing import ImageSettings, Preprocessing
from fasttextdiff.image.volume import Modality, Volume
from fasttextdiff.model.devices import choose_device, choose_dtype
from fasttextdiff.segmenter import Segmenter
from fasttextdiff.segments.tags import segment_tags

FINDINGS = ["ground-glass opacity in the left lung", "consolidation"]
AXIAL_LPS = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.fixture
def segmenter():
    return Segmenter(tiny_pipeline(), device="cpu")


def ct(shape=(5, 40, 30), seed=0, affine=AXIAL_LPS):
    voxels = np.random.default_rng(seed).integers(-1000, 400, shape).astype(np.int16)
    return Volume(voxels, affine, Modality.CT)


def tile(side, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (1, side, side, 3)).astype(np.uint8)
    return Volume(pixels, AXIAL_LPS, Modality.HISTOLOGY, is_planar=True)


def test_the_result_is_on_the_volumes_grid_and_the_volume_is_unchanged(segmenter):
    volume = ct()
    before = volume.array.copy()
    result = segmenter.segment(volume, FINDINGS, samples=2)
    for finding in FINDINGS:
        for answer in (result.probability[finding], result.mask[finding], result.disagreement[finding]):
            assert answer.shape == volume.shape
    assert np.array_equal(volume.array, before)
    assert result.provenance.window == (-400.0, 1200.0)
    assert result.provenance.timesteps == (50, 150)


def test_equal_requests_give_equal_bits_and_another_seed_others(segmenter):
    first = segmenter.segment(ct(), FINDINGS, seed=3)
    again = Segmenter(tiny_pipeline(), device="cpu", cache_bytes=0).segment(ct(), FINDINGS, seed=3)
    other = segmenter.segment(ct(), FINDINGS, seed=4)
    for finding in FINDINGS:
        assert np.array_equal(first.probability[finding], again.probability[finding])
        assert not np.array_equal(first.probability[finding], other.probability[finding])


def test_a_cache_hit_equals_a_miss_and_saves_the_denoiser(segmenter):
    volume = ct()
    image = segmenter.prepare(volume, slices=(1, 4))
    segmenter.encode(image)
    calls = []
    segmenter.pipeline.denoiser.unet.conv_in.register_forward_hook(lambda *_: calls.append(1))
    hit = segmenter.decode(image, FINDINGS)
    assert calls == []
    segmenter.cache.clear()
    miss = segmenter.decode(image, FINDINGS)
    assert calls
    for finding in FINDINGS:
        assert np.array_equal(hit.probability[finding], miss.probability[finding])


def test_voxels_changed_in_place_are_not_answered_from_the_cache(segmenter):
    volume = ct()
    before = segmenter.segment(volume, FINDINGS[:1], slice_by_slice=True).probability[FINDINGS[0]]
    volume.array[2] = volume.array[2][::-1].copy()
    after = segmenter.segment(volume, FINDINGS[:1], slice_by_slice=True).probability[FINDINGS[0]]
    assert not np.array_equal(before[2], after[2])
    assert np.array_equal(before[1], after[1])


def test_only_the_requested_slices_are_segmented(segmenter):
    result = segmenter.segment(ct(), FINDINGS, slices=(1, 3), slice_by_slice=True)
    whole = segmenter.segment(ct(), FINDINGS, slice_by_slice=True)
    for finding in FINDINGS:
        assert not result.probability[finding][[0, 3, 4]].any()
        assert np.isnan(result.presence[finding][[0, 3, 4]]).all()
        np.testing.assert_allclose(result.probability[finding][1:3], whole.probability[finding][1:3], atol=1e-4)


@pytest.mark.parametrize("flip", [0, 1, 2])
def test_the_model_sees_the_patient_the_same_way_in_every_storage_order(segmenter, flip):
    volume = ct()
    axis = 2 - flip  # array axis of the voxel axis i, j or k
    affine = AXIAL_LPS.copy()
    affine[:3, 3] += affine[:3, flip] * (volume.array.shape[axis] - 1)
    affine[:3, flip] *= -1
    mirrored = Volume(np.flip(volume.array, axis).copy(), affine, Modality.CT)
    straight = segmenter.segment(volume, FINDINGS[:1]).probability[FINDINGS[0]]
    turned = segmenter.segment(mirrored, FINDINGS[:1]).probability[FINDINGS[0]]
    np.testing.assert_allclose(np.flip(turned, axis), straight, atol=1e-4)


def test_other_planes_give_results_on_the_same_grid(segmenter):
    volume = ct((20, 24, 28))
    for plane in ("axial", "coronal", "sagittal"):
        result = segmenter.segment(volume, FINDINGS[:1], plane=plane, slices=(3, 4))
        touched = np.nonzero(result.probability[FINDINGS[0]])
        axis = {"axial": 0, "coronal": 1, "sagittal": 2}[plane]
        assert set(touched[axis]) == {3}


def test_the_batch_size_changes_only_the_last_digits(segmenter):
    together = segmenter.segment(ct(), FINDINGS)
    single = Segmenter(tiny_pipeline(), device="cpu")
    single.runtime.batch = 1
    alone = single.segment(ct(), FINDINGS)
    for finding in FINDINGS:
        np.testing.assert_allclose(together.probability[finding], alone.probability[finding], atol=2e-3)


def test_samples_are_averaged_and_their_spread_is_reported(segmenter):
    finding = FINDINGS[0]
    alike = {"slice_by_slice": True}
    parts = [segmenter.segment(ct(), [finding], seed=seed, **alike).probability[finding] for seed in (5, 6, 7)]
    result = segmenter.segment(ct(), [finding], samples=3, seed=5, **alike)
    np.testing.assert_allclose(result.probability[finding], np.mean(parts, 0), atol=1e-5)
    np.testing.assert_allclose(result.disagreement[finding], np.std(parts, 0), atol=1e-5)
    assert segmenter.segment(ct(), [finding]).disagreement[finding] is None


def test_a_large_tile_is_covered_by_windows_without_seams(segmenter):
    volume = tile(150)
    image = segmenter.prepare(volume)
    assert len(image.tiles) == 9
    assert all(t.height == t.width == 64 for t in image.tiles)
    covered = np.zeros((150, 150), bool)
    for t in image.tiles:
        covered[t.slices] = True
    assert covered.all()
    result = segmenter.segment(volume, FINDINGS)
    assert np.isfinite(result.probability[FINDINGS[0]]).all()


def test_progress_counts_slices_and_returning_false_cancels(segmenter):
    seen = []
    segmenter.segment(ct(), FINDINGS, progress=lambda done, total: seen.append((done, total)) or True)
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    with pytest.raises(Cancelled, match="nothing was changed"):
        segmenter.segment(ct(), FINDINGS, progress=lambda *_: False)


def test_a_low_presence_empties_the_mask(segmenter):
    finding = FINDINGS[0]
    probability = segmenter.segment(ct(), [finding]).presence[finding]
    cut = float(np.median(probability))
    object.__setattr__(segmenter.pipeline.info, "presence_threshold", cut)
    result = segmenter.segment(ct(), [finding], threshold=0.01)
    for index, there in enumerate(result.presence[finding]):
        assert result.mask[finding][index].any() == (there >= cut)


def test_findings_that_were_not_taught_get_a_warning(segmenter):
    warnings = {f.finding: f.warnings for f in segmenter.segment(ct(), [*FINDINGS, "pneumothorax"]).findings}
    assert warnings[FINDINGS[0]] == ()
    assert "pneumothorax" in warnings["pneumothorax"][0]
    assert "not trained on histology" in segmenter.segment(tile(64), ["nuclei"]).findings[0].warnings[0]


def test_the_gpus_queue_is_never_drained_for_a_number(segmenter):
    """Every `bool()` or `item()` of a tensor makes the host wait for the GPU; torch runs them as this one operation."""
    waits = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            if function is torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001 - its name in torch
                waits.append(function)
            return function(*arguments, **(named or {}))

    with Watch():
        assert bool(torch.ones(1))  # the watch sees it
        assert len(waits) == 1
        segmenter.segment(ct(), ["consolidation", "ground-glass opacity in the left lung"])
    assert len(waits) == 1


def test_a_cache_smaller_than_one_slice_changes_nothing(segmenter):
    poor = Segmenter(tiny_pipeline(), device="cpu", cache_bytes=1000)
    passes = []
    poor.pipeline.denoiser.register_forward_hook(lambda *_: passes.append(1))
    expected = segmenter.segment(ct(), FINDINGS).probability
    for _ in range(2):
        found = poor.segment(ct(), FINDINGS).probability
        assert all(np.array_equal(found[name], expected[name]) for name in FINDINGS)
    assert passes == [1] * 4  # two batches, twice
    assert poor.cache.used == 0


def test_a_finding_is_shown_in_the_window_it_was_taught_in_and_the_others_are_not(segmenter):
    volume, mixed = ct(), ["consolidation", "hepar", "ground-glass opacity"]
    own, soft = (-400.0, 1200.0), (60.0, 400.0)
    result = segmenter.segment(volume, mixed, samples=2)
    assert [found.window for found in result.findings] == [own, soft, own]
    assert result.provenance.window == own
    assert segment_tags(result.findings[1], result.provenance)["FastTextDiff.Window"] == "60.0 400.0"
    for window in (own, soft):  # as if the user had chosen that window for all of them
        same = segmenter.segment(volume, mixed, samples=2, window=window)
        assert [found.window for found in same.findings] == [window] * 3
        for found, expected in zip(result.findings, same.findings, strict=True):
            if found.window == window:
                assert np.allclose(found.probability, expected.probability, atol=1e-6)
                assert np.array_equal(found.presence, expected.presence)
    assert not np.allclose(result.probability["hepar"], same.probability["consolidation"])
    pictures = replace(volume, array=volume.array[:1].clip(0, 255).astype(np.uint8), is_planar=True)
    assert [found.window for found in segmenter.segment(pictures, mixed).findings] == [(127.5, 255.0)] * 3


def test_what_was_encoded_for_findings_is_all_that_decoding_them_needs(segmenter):
    image = segmenter.prepare(ct(), slices=(1, 3))
    segmenter.encode(image, ["hepar", "consolidation"])
    calls = []
    segmenter.pipeline.denoiser.unet.conv_in.register_forward_hook(lambda *_: calls.append(1))
    segmenter.decode(image, ["consolidation", "liver"])
    assert calls == []


def test_the_cache_holds_no_more_than_its_budget(segmenter, monkeypatch):
    segmenter.encode(segmenter.prepare(ct()))
    one = segmenter.cache.used // 5
    tight = Segmenter(tiny_pipeline(), device="cpu", cache_bytes=2 * one)
    keys, put = [], tight.cache.put
    monkeypatch.setattr(tight.cache, "put", lambda key, features: keys.append(key) or put(key, features))
    tight.encode(tight.prepare(ct()))
    stored = [maps for key in keys for maps in tight.cache.get(key) or ()]
    held = {id(maps.base): maps.base.untyped_storage().nbytes() for maps in stored}  # each owns its memory
    assert len(keys) == 5
    assert sum(held.values()) == tight.cache.used == 2 * one


def test_a_volume_larger_than_the_cache_finds_its_first_slices_again_and_a_smaller_request_drops_them(segmenter):
    segmenter.encode(segmenter.prepare(ct()))
    tight = Segmenter(tiny_pipeline(), device="cpu", cache_bytes=3 * (segmenter.cache.used // 5))
    for hits in (0, 3, 6):
        tight.encode(tight.prepare(ct()))
        assert tight.cache.hits == hits
    tight.encode(tight.prepare(ct(), slices=(4, 5)))
    tight.encode(tight.prepare(ct(), slices=(4, 5)))
    assert tight.cache.hits == 7  # the last slice is kept now, in place of the one used longest ago


def out_of_memory(monkeypatch, module, when):
    """Let a network fail as a GPU does, on calls for which `when(number of the call, batch)` holds."""
    forward, calls = module.forward, []

    def failing(first, *rest, **more):
        calls.append(len(first))
        if when(len(calls), len(first)):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(first, *rest, **more)

    monkeypatch.setattr(module, "forward", failing)
    return calls


def test_a_gpu_that_runs_out_of_memory_continues_with_half_the_batch(segmenter, monkeypatch):
    volume = ct((12, 40, 30))
    expected = segmenter.segment(volume, FINDINGS[:1]).probability[FINDINGS[0]]
    full = Segmenter(tiny_pipeline(), device="cpu")
    calls = out_of_memory(monkeypatch, full.pipeline.denoiser, lambda n, batch: n > 1 and batch > 2)
    seen = []
    result = full.segment(volume, FINDINGS[:1], progress=lambda done, _: seen.append(done) or True)
    np.testing.assert_allclose(result.probability[FINDINGS[0]], expected, atol=2e-3)
    assert calls == [4, 4, 2, 2, 2, 2]  # the second batch failed once, and no later one was as large
    assert seen == sorted(set(seen))
    assert seen[-1] == 12


def test_too_little_memory_for_one_slice_is_one_line_and_keeps_finished_slices(segmenter, monkeypatch):
    volume = ct((6, 40, 30))
    with monkeypatch.context() as patch:
        out_of_memory(patch, segmenter.pipeline.denoiser, lambda n, _: n > 1)
        with pytest.raises(FastTextDiffError) as caught:
            segmenter.segment(volume, FINDINGS)
        one_line(caught, "cpu", "too little memory", "--device cpu")
    calls = out_of_memory(monkeypatch, segmenter.pipeline.denoiser, lambda *_: False)
    assert segmenter.segment(volume, FINDINGS).probability[FINDINGS[0]].any()
    assert calls == [1, 1]  # the first four slices were there already


def test_findings_that_do_not_fit_into_memory_together_are_answered_in_parts(segmenter, monkeypatch):
    findings = [*FINDINGS, "left lung", "no infection"]
    expected = segmenter.segment(ct(), findings).probability
    full = Segmenter(tiny_pipeline(), device="cpu")
    full.runtime.pairs = 64
    head = full.pipeline.fusion.conv2
    calls = out_of_memory(monkeypatch, head, lambda _, pairs: pairs > 3)
    found = full.segment(ct(), findings).probability
    for name in findings:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-3)
    assert calls[:5] == [16, 8, 4, 2, 2]
    out_of_memory(monkeypatch, head, lambda *_: True)
    with pytest.raises(FastTextDiffError) as caught:
        full.segment(ct(), findings)
    one_line(caught, "--device cpu")


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"slices": (0, 6)}, ("0:6", "0:5")),
        ({"slices": (3, 3)}, ("3:3",)),
        ({"plane": "oblique"}, ("oblique", "axial")),
        ({"samples": 0}, ("samples",)),
        ({"threshold": 1.5}, ("threshold",)),
        ({"window": (0.0, 0.0)}, ("width",)),
    ],
)
def test_impossible_requests_are_refused_in_one_line(segmenter, request_, words):
    with pytest.raises(UsageError) as caught:
        segmenter.segment(ct(), FINDINGS, **request_)
    one_line(caught, *words)


@pytest.mark.parametrize("findings", ["heart", "left lung", [None], [b"heart"]], ids=repr)
def test_a_string_in_place_of_a_list_of_findings_is_refused(segmenter, findings):
    with pytest.raises(UsageError) as caught:
        segmenter.segment(ct(), findings)
    one_line(caught, "a list of texts")


def test_images_without_content_are_refused(segmenter):
    for voxels, word in ((np.full((1, 40, 40), 7, np.int16), "all voxels are 7"), (np.arange(1), "too small")):
        volume = Volume(
            voxels.reshape(-1, *voxels.shape[1:]) if voxels.ndim == 3 else voxels[None, None], AXIAL_LPS, Modality.CT
        )
        with pytest.raises(FastTextDiffError) as caught:
            segmenter.segment(volume, FINDINGS)
        one_line(caught, word)


def test_unavailable_devices_and_dtypes_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name, word in (("cuda", "no usable"), ("toaster", "not a device"), ("meta", "no usable")):
        with pytest.raises(UsageError, match=word):
            choose_device(name)
    with pytest.raises(UsageError, match="not a dtype"):
        choose_dtype("int8", torch.device("cpu"))


def test_a_gpu_without_bfloat16_uses_float16_and_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)  # torch counts what it imitates
    monkeypatch.setattr(torch.version, "hip", None)
    for capability, dtype in (((7, 5), torch.float16), ((8, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_, c=capability: c)
        assert choose_dtype("auto", torch.device("cuda")) == dtype
    assert choose_dtype("bfloat16", torch.device("cuda")) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    with pytest.raises(UsageError) as caught:
        choose_dtype("bfloat16", torch.device("cuda"))
    one_line(caught, "cuda cannot compute in bfloat16", "float16")


def test_bfloat16_changes_little(segmenter):
    finding = FINDINGS[0]
    half = Segmenter(tiny_pipeline(), device="cpu", dtype="bfloat16").segment(ct(), [finding])
    full = segmenter.segment(ct(), [finding])
    assert np.abs(half.probability[finding] - full.probability[finding]).mean() < 0.05
    assert half.provenance.dtype == "bfloat16"


def test_a_ct_is_cropped_to_the_body_and_nothing_is_found_outside():
    pipeline = tiny_pipeline()
    settings = dict(pipeline.preprocessing.settings)
    settings[Modality.CT] = ImageSettings(size=32, window=(-400.0, 1200.0), crop_to_body=True)
    pipeline.preprocessing = Preprocessing(settings)
    voxels = np.full((4, 80, 90), -1000, np.int16)
    voxels[:, 20:60, 30:75] = ct((4, 40, 45)).array // 4  # soft tissue
    voxels[:, 70:72, 5:85] = 300  # a table
    result = Segmenter(pipeline, device="cpu").segment(Volume(voxels, AXIAL_LPS, Modality.CT), FINDINGS)
    found = np.argwhere(result.probability[FINDINGS[0]] > 0)
    assert found[:, 1].min() in range(16, 21)
    assert found[:, 1].max() in range(59, 64)
    assert found[:, 2].min() in range(26, 31)


def test_former_names_work_and_name_the_new_ones(segmenter):
    with pytest.warns(DeprecationWarning, match="prepare"):
        image = segmenter.describe(ct(), slices=(0, 1))
    assert segmenter.cache.used == 0
    with pytest.warns(DeprecationWarning, match="encode"):
        segmenter.encode_slices(image)
    assert segmenter.cache.used > 0

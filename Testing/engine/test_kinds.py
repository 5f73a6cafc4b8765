"""The kind of an image is read from the picture itself where nothing states it, and only there."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from dicom_files import write_slice
from PIL import Image, ImageDraw

from fasttextdiff import Segmenter, read_volume
from fasttextdiff.contract.answers import ArrayFile
from fasttextdiff.contract.requests import Open, OpenVolume
from fasttextdiff.errors import ModelError
from fasttextdiff.image.orientation import display_plane
from fasttextdiff.image.preprocessing import apply_window
from fasttextdiff.image.volume import Modality
from fasttextdiff.model.info import BUNDLED_MODEL
from fasttextdiff.model.kinds import KINDS, KINDS_FILE, NONE_OF_THESE, KindHead, read_kinds, write_kinds
from fasttextdiff.model.places import weights_hash
from fasttextdiff.model.xray_states import DOUBTS, INVERTED, STATES, TURNED, UPRIGHT, XrayHead
from fasttextdiff.segments.measuring import measure
from fasttextdiff.segments.tags import segment_tags
from fasttextdiff.worker.jobs import Jobs
from fasttextdiff_lab.kinds import Shown, check, expected_kinds, fit
from fasttextdiff_lab.xray_states import check_xray, fit_xray, xray_variants

LUNG, SOFT = (-400.0, 1200.0), (40.0, 400.0)


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(device="cpu")


@pytest.fixture
def save(tmp_path):
    def save(pixels, name="picture.png"):
        path = tmp_path / name
        Image.fromarray(np.ascontiguousarray(pixels)).save(path)
        return path

    return save


def as_picture(volume, index, window):
    """A slice as a radiologist sees it, with 256 grey levels."""
    shown = display_plane(volume, "acquisition").to_display(volume.array)[index]
    return (apply_window(shown, window) * 255).astype(np.uint8)


def x_ray(samples):
    return np.asarray(Image.open(samples / "cxr_hannover" / "18017511.png").convert("L"))


def page():
    image = Image.new("L", (300, 400), 255)
    for y in range(10, 390, 14):
        ImageDraw.Draw(image).text((10, y), "Findings: no acute abnormality of the chest is seen.", fill=0)
    return np.asarray(image)


def pictures(samples):
    chest = read_volume(samples / "chest_ct" / "chest_ct_cropped.nii.gz")
    belly = read_volume(samples / "abdominal_ct_dicom")
    xray = x_ray(samples)
    noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype(np.uint8)
    tile = np.asarray(Image.open(samples / "histology" / "4d14a3629b6af6de.png").convert("RGB"))
    return {
        "chest CT, lungs": (as_picture(chest, 60, LUNG), "ct"),
        "abdominal CT": (as_picture(belly, 5, SOFT), "ct"),
        "abdominal CT, 16 bits": (belly.array[5].clip(-200, 300).astype(np.int32) + 200, "ct"),
        "X-ray": (xray, "xray"),
        "X-ray, inverted": (255 - xray, "xray"),
        "X-ray, on its side": (np.rot90(xray), "xray"),
        "X-ray, mirrored": (xray[:, ::-1], "xray"),
        "histology": (tile, "histology"),
        "histology, turned": (np.rot90(tile), "histology"),
        "noise": (noise, "other"),
        "page of text": (page(), "other"),
    }


NAMES = [
    "chest CT, lungs",
    "abdominal CT",
    "abdominal CT, 16 bits",
    "X-ray",
    "X-ray, inverted",
    "X-ray, on its side",
    "X-ray, mirrored",
    "histology",
    "histology, turned",
    "noise",
    "page of text",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_what_it_shows(segmenter, samples, save, name):
    pixels, modality = pictures(samples)[name]
    volume = read_volume(save(pixels.astype(np.uint16) if pixels.dtype == np.int32 else pixels))
    assert volume.is_guessed
    image = segmenter.prepare(volume)
    assert image.volume.modality.value == modality
    assert any("from the picture itself" in note for note in image.volume.source.notes)
    assert not any("guessed" in note for note in image.volume.source.notes)
    assert not image.by_finding  # a picture has no Hounsfield units


def test_a_slice_of_ct_saved_as_a_picture_gets_ct_answers_and_says_why(segmenter, samples, save):
    pixels, _ = pictures(samples)["chest CT, lungs"]
    result = segmenter.segment(read_volume(save(pixels)), ["left lung", "heart"])
    lung, heart = result.findings
    assert 0.02 < lung.mask.mean() < 0.4
    assert "ct" in heart.untaught  # taught on X-rays only
    head = segmenter.runtime.settings.kinds
    assert result.provenance.kind == f"chest CT, by kinds {head.sha256}"
    assert segment_tags(lung, result.provenance)["FastTextDiff.Kind"] == result.provenance.kind


def test_a_picture_of_nothing_known_is_left_empty_with_the_way_out(segmenter, save):
    result = segmenter.segment(read_volume(save(page())), ["left lung"])
    assert not result.findings[0].mask.any()
    assert "the modality is not known: give it" in result.findings[0].untaught


@pytest.mark.parametrize("asked", ["xray", "other", "histology"])
def test_the_users_modality_wins(segmenter, samples, save, asked):
    pixels, _ = pictures(samples)["chest CT, lungs"]
    volume = read_volume(save(pixels), modality=asked)
    image = segmenter.prepare(volume)
    assert (image.volume.modality.value, image.volume.kinds) == (asked, ())
    assert image.volume.array is volume.array
    assert segmenter.decode(image, ["left lung"], try_anyway=True).provenance.kind is None


def test_a_stack_in_hounsfield_units_stays_a_ct_and_keeps_its_window(segmenter, samples):
    volume = read_volume(samples / "chest_ct" / "chest_ct_cropped.nii.gz")
    image = segmenter.prepare(volume)
    assert volume.is_guessed
    assert image.volume.modality is Modality.CT
    assert "chest CT" in image.volume.kinds  # among others: the volume is cropped closely
    assert image.window == LUNG
    assert segmenter.decode_slices(image.with_request(slices=(50, 51), samples=1, seed=0), ["left lung"]).findings[0]


def test_a_stack_that_looks_like_ct_but_has_no_hounsfield_units_is_not_read_as_one(segmenter, samples, tmp_path):
    belly = read_volume(samples / "abdominal_ct_dicom")
    grey = (apply_window(belly.array, SOFT) * 255).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(grey.transpose(2, 1, 0), belly.ijk_to_ras), tmp_path / "grey.nii.gz")
    volume = segmenter.prepare(read_volume(tmp_path / "grey.nii.gz")).volume
    assert volume.modality is Modality.OTHER
    assert any("looks like CT of abdomen or pelvis, but is read as other" in note for note in volume.source.notes)


def test_an_mr_of_the_head_is_not_taken_for_a_ct_whose_voxels_it_cannot_have(segmenter, samples):
    volume = segmenter.prepare(read_volume(samples / "brain_mr" / "brain1_image.nrrd")).volume
    assert (volume.modality, volume.kinds[0]) == (Modality.MR, "head MR")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("ct_totalsegmentator/example_mr_sm.nii.gz", "abdominal MR"), ("mr_brain_tumour/brain2_image.nrrd", "head MR")],
)
def test_an_mr_volume_is_recognised(segmenter, shared, name, kind):
    volume = segmenter.prepare(read_volume(shared / "samples" / name)).volume
    assert (volume.modality, volume.kinds[0]) == (Modality.MR, kind)


@pytest.mark.parametrize("is_dicom", [True, False], ids=["dicom", "nifti"])
def test_a_ct_in_colour_is_segmented_as_it_was_saved(segmenter, tmp_path, is_dicom):
    colour = np.random.default_rng(0).integers(0, 255, (3, 48, 48, 3)).astype(np.uint8)
    path = tmp_path / "ct"
    if is_dicom:
        path.mkdir()
        for n, pixels in enumerate(colour):
            place = {"ImagePositionPatient": [0, 0, 2 * n], "RescaleSlope": None, "RescaleIntercept": None}
            write_slice(path / f"{n}", pixels, **place)
    else:
        path = tmp_path / "ct.nii.gz"
        stored = np.ascontiguousarray(colour.transpose(2, 1, 0, 3)).view([(c, "u1") for c in "RGB"])[..., 0]
        nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), path)
    volume = read_volume(path, modality=None if is_dicom else "ct")
    assert volume.modality is Modality.CT
    assert [note for note in volume.source.notes if "Hounsfield" in note] == [
        "a CT in colour, not Hounsfield units: the model sees it as saved"
    ]
    result = segmenter.segment(volume, ["liver"], slices=(0, 1))
    assert result.provenance.window is None
    assert result.volume.kinds
    (measured,) = measure(result)
    assert (measured.unit, measured.mean) == ("", None)


def test_the_module_is_told_what_the_picture_shows(samples, save):
    jobs = Jobs()
    jobs.do(Open(None, "cpu"), lambda *_: True)
    pixels, _ = pictures(samples)["chest CT, lungs"]
    path = save(pixels)
    raw = path.with_suffix(".raw")
    pixels[None].tofile(raw)
    voxels = ArrayFile(raw, "uint8", (1, *pixels.shape))
    opened = jobs.do(OpenVolume("v", voxels, tuple(np.eye(4).ravel()), path=path), lambda *_: True)
    assert opened.modality == "ct"
    assert "kind of image: chest CT, from the picture itself" in opened.notes


# --- turned and inverted X-rays ---------------------------------------------------------------------------------------

CHANGES = {
    "": lambda xray: xray,
    "mirrored": lambda xray: xray[:, ::-1],
    "turned": np.rot90,
    "upside down": lambda xray: xray[::-1, ::-1],
    "inverted": lambda xray: 255 - xray,
}


@pytest.mark.parametrize("modality", [None, "xray"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_turned_or_inverted_x_ray_is_told(segmenter, samples, save, change, modality):
    volume = read_volume(save(CHANGES[change](x_ray(samples))), modality=modality)
    notes = segmenter.prepare(volume).volume.source.notes
    wanted = {"turned": TURNED, "upside down": TURNED, "inverted": INVERTED}.get(change)
    assert [note for note in notes if note in DOUBTS.values()] == ([DOUBTS[wanted]] if wanted else [])


def test_other_pictures_are_never_turned_x_rays(segmenter, samples, save):
    tissue = np.rot90(pictures(samples)["histology"][0])
    notes = segmenter.prepare(read_volume(save(tissue))).volume.source.notes
    assert not set(notes) & set(DOUBTS.values())


def test_variants_of_an_xray_show_what_they_are_called():
    xray = np.tile(np.arange(50, 150, dtype=np.uint8), (80, 1))
    states = [(state, pixels) for pixels, state in xray_variants(xray, np.random.default_rng(0))]
    assert [state for state, _ in states] == [UPRIGHT, UPRIGHT, TURNED, TURNED, TURNED, INVERTED, INVERTED]
    assert np.array_equal(states[0][1], xray)
    assert np.array_equal(states[5][1], 255 - xray)
    assert all((np.ptp(pixels, axis=1) == 0).all() for _, pixels in (states[2], states[4]))  # columns became rows


def test_the_state_of_xrays_of_new_patients_is_learned():
    def shown(seed, patients):
        random, centres = np.random.default_rng(seed), np.random.default_rng(0).normal(0, 3, (3, 24))
        return [
            Shown("chest X-ray", f"{seed} {patient}", "drawn", state, random.normal(centres[n], 1).astype(np.float32))
            for patient in range(patients)
            for n, state in enumerate(STATES)
        ]

    head = replace(head_of(24), mean=np.zeros(24, np.float32), scale=np.ones(24, np.float32))
    xray = fit_xray(shown(1, 40), head)
    assert check_xray(head, xray, shown(2, 10))[0] == "X-ray upright: 10 upright, 0 turned, 0 inverted of 10"
    assert "10 inverted of 10" in check_xray(head, xray, shown(2, 10))[2]


# --- where the finding does not fit ----------------------------------------------------------------------------------


def test_a_finding_that_the_part_of_the_body_cannot_show_is_warned_of(segmenter, samples):
    volume = read_volume(samples / "chest_ct" / "chest_ct_cropped.nii.gz", modality="ct")
    image = segmenter.prepare(volume, slices=(50, 51))
    elsewhere = replace(image, volume=replace(image.volume, kinds=("head CT",)))
    (fits,) = segmenter.decode_slices(image, ["left lung"]).findings
    (misfits,) = segmenter.decode_slices(elsewhere, ["left lung"]).findings
    said = "'left lung' is not expected here: judging by its content, the image is a head CT"
    assert said not in fits.warnings
    assert said in misfits.warnings
    assert np.array_equal(fits.mask, misfits.mask)


def test_a_finding_is_expected_on_every_kind_that_may_show_it(segmenter):
    expected = expected_kinds(segmenter.info.taught)
    assert "chest CT" in expected["left lung"]
    assert "heart MR" in expected["heart"]
    assert not {"head CT", "head MR", "breast ultrasound"} & set(expected["left lung"])


# --- the file --------------------------------------------------------------------------------------------------------


def head_of(length=6, **other):
    random = np.random.default_rng(0)
    arrays = [random.uniform(0.5, 1, shape).astype(np.float32) for shape in ((length,), (length,))]
    weight = random.normal(size=(len(KINDS), length)).astype(np.float32)
    bias = random.normal(size=len(KINDS)).astype(np.float32)
    return KindHead(KINDS, *arrays, weight, bias, size=128, surest=0.4, made_for="abc", **other)


def xray_of(length=6):
    return XrayHead(np.eye(3, length, dtype=np.float32), np.zeros(3, np.float32), 0.5)


def test_the_bundled_file_fits_the_bundled_weights():
    head = read_kinds(BUNDLED_MODEL, weights_hash())
    assert head is not None
    assert head.xray is not None


def test_what_tells_xrays_apart_is_kept_in_the_file(tmp_path):
    write_kinds(head_of(xray=xray_of()), tmp_path)
    xray = read_kinds(tmp_path, "abc").xray
    assert np.array_equal(xray.weight, xray_of().weight)
    assert (xray.bias.tolist(), xray.surest) == ([0, 0, 0], 0.5)


def test_an_xray_is_doubted_only_if_that_is_sure():
    xray = xray_of()
    assert [xray.doubt(xray.weight[n] * 9) for n in range(3)] == ["", DOUBTS[TURNED], DOUBTS[INVERTED]]
    assert xray.doubt(xray.weight[1] * 0.1) == ""


@pytest.mark.parametrize("xray", [(np.zeros((2, 6)), np.zeros(2)), (np.zeros((3, 6)), np.zeros(2))])
def test_xrays_cannot_be_told_apart_by_arrays_that_do_not_fit(xray):
    with pytest.raises(ValueError, match="do not distinguish states"):
        XrayHead(*xray, 0.5)
    with pytest.raises(ValueError, match="do not distinguish"):
        head_of(xray=xray_of(length=5))


def test_what_is_written_is_read(tmp_path):
    head = head_of(expected={"liver": ("chest CT",)})
    write_kinds(head, tmp_path)
    found = read_kinds(tmp_path, "abc")
    for name in ("mean", "scale", "weight", "bias"):
        assert np.array_equal(getattr(found, name), getattr(head, name))
    assert (found.kinds, found.size, found.surest, found.expected) == (KINDS, 128, 0.4, {"liver": ("chest CT",)})
    assert len(found.sha256) == 8


def test_without_the_file_or_with_that_of_other_weights_the_modality_stays_guessed(tmp_path):
    assert read_kinds(tmp_path, "abc") is None
    write_kinds(head_of(), tmp_path)
    assert read_kinds(tmp_path, "def") is None


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_damaged_file_is_refused_in_one_line(tmp_path, content):
    write_kinds(head_of(), tmp_path)
    whole = (tmp_path / KINDS_FILE).read_bytes()
    (tmp_path / KINDS_FILE).write_bytes(whole[:-20] if content is None else content)
    with pytest.raises(ModelError, match=KINDS_FILE) as caught:
        read_kinds(tmp_path, "abc")
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_not_sure_is_none_of_these():
    head = head_of()
    shares = np.full(len(KINDS), 0.5 / (len(KINDS) - 1))
    shares[0] = 0.5
    assert head.decide(shares) is KINDS[0]
    assert replace(head, surest=0.6).decide(shares) is NONE_OF_THESE
    assert head.decide(shares, {Modality.MR}).modality in (Modality.MR, Modality.OTHER)


def clusters(groups, seed):
    """Statistics of clearly different kinds, ten pictures of each patient."""
    centres = np.random.default_rng(0).normal(0, 3, (len(KINDS), 24))
    random = np.random.default_rng(seed)
    return [
        Shown(kind.name, f"{kind.name} {group}", "source", "", (centre + random.normal(size=24)).astype(np.float32))
        for kind, centre in zip(KINDS, centres, strict=True)
        for group in groups
        for _ in range(3)
    ]


def test_fitting_tells_clearly_different_kinds_apart_and_counts_what_is_wrong(segmenter):
    head = fit(clusters(range(8), 1), segmenter.info, lambda line: None)
    checked = check(head, clusters(range(8, 12), 2))
    assert checked.table.sum() == 12 * len(KINDS)
    assert checked.accuracy > 0.95
    swapped = [replace(one, kind=KINDS[0].name) for one in clusters([0], 3)]
    assert check(head, swapped).accuracy < 0.2

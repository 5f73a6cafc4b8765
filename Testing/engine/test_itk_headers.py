"""NRRD and MetaImage headers are checked: finite numbers, independent axes, existing voxels."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest

from fasttextdiff.errors import FastTextDiffError
from fasttextdiff.io.read import read_volume

VOXELS = np.random.default_rng(0).integers(-1000, 500, (4, 5, 6)).astype("<i2")
STORED = VOXELS.tobytes()
PACKED = zlib.compress(STORED)
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "6 5 4",
    "space directions": "(2,0,0) (0,3,0) (0,0,4)",
    "space origin": "(7,8,9)",
    "endian": "little",
    "encoding": "raw",
}
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "7 8 9",
    "ElementSpacing": "2 3 4",
    "DimSize": "6 5 4",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def write_nrrd(path, content=STORED, **changed):
    fields = {**NRRD, **{name.replace("_", " "): value for name, value in changed.items()}}
    lines = ["NRRD0004", *(f"{name}: {value}" for name, value in fields.items() if value is not None)]
    path.write_bytes("\n".join([*lines, "", ""]).encode() + content)
    return path


def write_meta(path, content=STORED, **changed):
    fields = {name: value for name, value in {**META, **changed}.items() if value is not None}
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    path.write_bytes("".join(f"{name} = {value}\n" for name, value in fields.items()).encode() + content)
    return path


def refusal(path):
    with pytest.raises(FastTextDiffError) as caught:
        read_volume(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message


def test_valid_headers_are_read(tmp_path):
    (tmp_path / "v.raw").write_bytes(STORED)
    (tmp_path / "v.gz").write_bytes(gzip.compress(STORED))
    (tmp_path / "v.zraw").write_bytes(PACKED)
    for k, pixels in enumerate(VOXELS):
        (tmp_path / f"s{k}.raw").write_bytes(pixels.tobytes())
    text = " ".join(map(str, VOXELS.ravel())).encode()
    packed = {"CompressedData": "True", "CompressedDataSize": len(PACKED)}
    spacings = {"space": None, "space_directions": None, "space_origin": None, "spacings": "2 3 4"}
    paths = [
        write_nrrd(tmp_path / "raw.nrrd"),
        write_nrrd(tmp_path / "gzip.nrrd", gzip.compress(STORED), encoding="gzip"),
        write_nrrd(tmp_path / "text.nrrd", text, encoding="text"),
        write_nrrd(tmp_path / "old.nrrd", **spacings),
        write_nrrd(tmp_path / "apart.nhdr", b"", data_file="v.raw"),
        write_nrrd(tmp_path / "packed.nhdr", b"", data_file="v.gz", encoding="gzip"),
        write_nrrd(tmp_path / "slices.nhdr", b"", data_file="s%d.raw 0 3 1 2"),
        write_nrrd(tmp_path / "list.nhdr", b"", data_file="LIST 2\ns0.raw\ns1.raw\ns2.raw\ns3.raw"),
        write_meta(tmp_path / "raw.mha"),
        write_meta(tmp_path / "zlib.mha", PACKED, **packed),
        write_meta(tmp_path / "text.mha", text + b"\n", BinaryData="False"),
        write_meta(tmp_path / "apart.mhd", b"", ElementDataFile="v.raw"),
        write_meta(tmp_path / "packed.mhd", b"", ElementDataFile="v.zraw", **packed),
        write_meta(tmp_path / "slices.mhd", b"", ElementDataFile="s%d.raw 0 3 1"),
        write_meta(tmp_path / "list.mhd", b"s0.raw\ns1.raw\ns2.raw\ns3.raw\n", ElementDataFile="LIST"),
    ]
    listed = tmp_path / "list.nhdr"
    listed.write_bytes(listed.read_bytes().rstrip() + b"\n")  # an empty line would be the name of a file
    for path in paths:
        volume = read_volume(path)
        assert np.array_equal(volume.array, VOXELS), path.name
        assert volume.spacing == (2, 3, 4), path.name


def named(value):
    """A name that is equal in every process: a function's repr contains its address."""
    return value.__name__ if callable(value) else str(value)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "x"])
@pytest.mark.parametrize(
    ("write", "name", "field"),
    [
        (write_nrrd, "v.nrrd", {"space_directions": "(2,0,0) (0,{},0) (0,0,4)"}),
        (write_nrrd, "v.nrrd", {"space_origin": "(7,{},9)"}),
        (write_nrrd, "v.nrrd", {"space": None, "space_directions": None, "space_origin": None, "spacings": "2 {} 4"}),
        (write_nrrd, "v.nrrd", {"space": None, "space_directions": None, "space_origin": None, "axis_mins": "0 {} 0"}),
        (write_meta, "v.mha", {"TransformMatrix": "1 0 0 0 {} 0 0 0 1"}),
        (write_meta, "v.mha", {"Offset": "7 {} 9"}),
        (write_meta, "v.mha", {"ElementSpacing": "2 {} 4"}),
    ],
    ids=named,
)
def test_geometry_that_is_not_finite_is_refused(tmp_path, write, name, field, number):
    path = write(tmp_path / name, **{word: value and value.format(number) for word, value in field.items()})
    assert "not a valid number" in refusal(path)


def test_nan_spacing_marks_the_colour_axis(tmp_path):
    colour = VOXELS.astype(np.uint8).tobytes()
    place = {"space": None, "space_directions": None, "space_origin": None, "kinds": "RGB-color domain domain"}
    path = write_nrrd(tmp_path / "v.nrrd", colour[:90], type="uchar", sizes="3 6 5", spacings="nan 2 3", **place)
    assert read_volume(path).spacing[:2] == (2, 3)


@pytest.mark.parametrize(
    ("write", "name", "field"),
    [
        (write_nrrd, "v.nrrd", {"space_directions": "(2,0,0) (0,0,0) (0,0,4)"}),
        (write_nrrd, "v.nrrd", {"space_directions": "(2,0,0) (1,0,0) (0,0,4)"}),
        (write_meta, "v.mha", {"TransformMatrix": "1 0 0 0 1 0 0 0 0"}),
        (write_meta, "v.mha", {"TransformMatrix": "1 0 0 1 0 0 0 0 1"}),
    ],
    ids=named,
)
def test_linearly_dependent_axes_are_refused(tmp_path, write, name, field):
    assert "do not span the image" in refusal(write(tmp_path / name, **field))


@pytest.mark.parametrize(
    ("write", "field"),
    [
        (write_nrrd, {"space": None, "space_directions": None, "space_origin": None, "spacings": "2 0 4"}),
        (write_meta, {"ElementSpacing": "2 0 4"}),
    ],
    ids=named,
)
def test_a_spacing_of_zero_is_refused(tmp_path, write, field):
    assert "not a valid number" in refusal(write(tmp_path / ("v.nrrd" if write is write_nrrd else "v.mha"), **field))


HUGE = ["60000 60000 60000", "6 5 400000000", "2147483647 2147483647 2147483647", "6 5 5"]


@pytest.mark.parametrize("sizes", HUGE)
def test_missing_voxels_are_refused_before_allocation(tmp_path, sizes):
    (tmp_path / "v.raw").write_bytes(STORED)
    short = STORED
    paths = [
        write_nrrd(tmp_path / "raw.nrrd", sizes=sizes),
        write_nrrd(tmp_path / "gzip.nrrd", gzip.compress(short), sizes=sizes, encoding="gzip"),
        write_nrrd(tmp_path / "text.nrrd", b"7 " * 120, sizes=sizes, encoding="text"),
        write_nrrd(tmp_path / "apart.nhdr", b"", sizes=sizes, data_file="v.raw"),
        write_meta(tmp_path / "raw.mha", DimSize=sizes),
        write_meta(tmp_path / "zlib.mha", PACKED, DimSize=sizes, CompressedData="True", CompressedDataSize=len(PACKED)),
        write_meta(tmp_path / "apart.mhd", b"", DimSize=sizes, ElementDataFile="v.raw"),
    ]
    for path in paths:
        assert "in its header" in refusal(path) or "in the header" in refusal(path), path.name


@pytest.mark.parametrize("size", [None, 0, -1, len(PACKED) // 2, len(PACKED) - 1, 10**9, "x"])
def test_compressed_voxels_with_a_wrong_length_are_refused(tmp_path, size):
    refusal(write_meta(tmp_path / "v.mha", PACKED, CompressedData="True", CompressedDataSize=size))


def test_a_device_is_not_read_as_voxels(tmp_path):
    assert "which is missing" in refusal(write_meta(tmp_path / "v.mhd", b"", ElementDataFile="/dev/zero"))
    assert "which is missing" in refusal(write_nrrd(tmp_path / "v.nhdr", b"", data_file="/dev/zero"))


@pytest.mark.parametrize("name", ["v.nrrd", "v.mha", "v.nii.gz"])
def test_a_decompression_bomb_is_refused(tmp_path, name):
    """A file of a few megabytes for gigabytes of zeros. Its start is enough, since none of it may be unpacked."""
    if name == "v.nii.gz":
        import nibabel

        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.int16)
        header.set_data_shape((4000, 4000, 400))
        header["magic"], header["vox_offset"] = b"n+1", 352
        (tmp_path / name).write_bytes(gzip.compress(header.binaryblock + bytes(1 << 20)))
    elif name == "v.nrrd":
        write_nrrd(tmp_path / name, gzip.compress(bytes(1 << 20)), sizes="4000 4000 400", encoding="gzip")
    else:
        packed = zlib.compress(bytes(1 << 20))
        write_meta(
            tmp_path / name, packed, DimSize="4000 4000 400", CompressedData="True", CompressedDataSize=len(packed)
        )
    assert "cannot unpack" in refusal(tmp_path / name)

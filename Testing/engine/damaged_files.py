"""Makes small files of every format and damages them at random; run as a program, reads files under limits.

As a program (`python damaged_files.py FILE...`) it prints a line before and after each file, so that the caller knows
which file made it crash. Knows nothing about how files are read.
"""

from __future__ import annotations

import gzip
import random
import re
import signal
import struct
import sys
import traceback
import zlib
from pathlib import Path

GIB = 1 << 30
MEMORY = 4 * GIB
"""Address space in addition to that of the libraries."""
SECONDS = 20
"""Seconds of CPU time, so that a busy machine makes no difference."""
_NUMBERS = (b"0", b"-1", b"nan", b"inf", b"1e308", b"2147483647", b"4294967296", b"99999999999999999999", b"x")
_WORDS = (b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\xc0\x7f", b"\x7f\xff\xff\xff")


def _bytes(data: bytearray, at: int, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 16)):
        place = min(at + dice.randrange(64), len(data) - 1)
        data[place] = dice.randrange(256)


def _word(data: bytearray, at: int, dice: random.Random) -> None:
    word = dice.choice(_WORDS)
    data[at : at + len(word)] = word


def _number(data: bytearray, at: int, dice: random.Random) -> None:
    """The next number in text after a position, replaced by another."""
    found = re.search(rb"-?\d+(\.\d+)?", bytes(data[at:]))
    if found:
        data[at + found.start() : at + found.end()] = dice.choice(_NUMBERS)


def _cut(data: bytearray, at: int, dice: random.Random) -> None:
    del data[at : at + dice.randint(1, 200)]


def _doubled(data: bytearray, at: int, dice: random.Random) -> None:
    data[at:at] = data[at : at + dice.randint(1, 200)]


def _short(data: bytearray, at: int, dice: random.Random) -> None:
    del data[max(at, 4) :]


_DAMAGES = (_bytes, _bytes, _word, _word, _number, _number, _cut, _doubled, _short)


def damaged(content: bytes, dice: random.Random) -> bytes:
    """One to three of: other bytes, another number in text, a part removed or doubled, the rest truncated."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 3)):
        reach = len(data) if dice.random() < 0.5 else min(len(data), 1000)  # headers matter most
        dice.choice(_DAMAGES)(data, dice.randrange(reach), dice)
    return bytes(data)


def damaged_inside(content: bytes, dice: random.Random) -> bytes:
    """Like `damaged`, for the content of a gzip file."""
    return gzip.compress(damaged(gzip.decompress(content), dice), mtime=0)


def intact_files(folder: Path) -> list[Path]:
    """One small file of every format and kind of storage."""
    import nibabel
    import numpy as np
    import SimpleITK as sitk  # noqa: N813
    from dicom_files import slice_dataset, write_multiframe, write_slice
    from PIL import Image
    from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

    folder.mkdir()
    hu = np.random.default_rng(0).integers(-1000, 500, (4, 24, 20)).astype(np.int16)
    unsigned = (hu[0] + 1000).astype(np.uint16)
    write_slice(folder / "plain.dcm", hu[0])
    write_slice(folder / "rle.dcm", unsigned, RLELossless, Modality="MR")
    write_slice(folder / "j2k.dcm", unsigned, JPEG2000Lossless, Modality="MR")
    write_slice(folder / "dx.dcm", unsigned, Modality="DX", ImagePositionPatient=None, PatientOrientation=["L", "F"])
    write_multiframe(folder / "frames.dcm", unsigned[None].repeat(3, 0), [0, 2, 4])
    deflated = slice_dataset(hu[0])
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    deflated.save_as(folder / "deflated.dcm", enforce_file_format=True)
    image = sitk.GetImageFromArray(hu)
    for name in ("plain.nrrd", "plain.mha"):
        sitk.WriteImage(image, str(folder / name))
    for name in ("packed.nrrd", "packed.mha"):
        sitk.WriteImage(image, str(folder / name), useCompression=True)
    scaled = nibabel.Nifti1Image(hu, np.diag([2, 2, 3, 1]))
    for name in ("plain.nii", "packed.nii.gz", "inside.nii.gz"):
        nibabel.save(scaled, folder / name)
    nibabel.save(nibabel.Nifti2Image(hu, np.eye(4)), folder / "two.nii")
    picture = Image.fromarray((unsigned >> 3).astype(np.uint8))
    colour = Image.merge("RGB", [picture, picture.rotate(90), picture.rotate(180)])
    for name, one, options in (
        ("grey.png", picture, {}),
        ("wide.png", Image.fromarray(unsigned), {}),
        ("palette.png", colour.quantize(16), {}),
        ("clear.png", colour.convert("RGBA"), {}),
        ("colour.jpg", colour, {}),
        ("plain.tif", Image.fromarray(unsigned), {}),
        ("float.tif", Image.fromarray(unsigned.astype(np.float32)), {}),
        ("lzw.tif", colour, {"compression": "tiff_lzw"}),
        ("deflate.tif", picture, {"compression": "tiff_adobe_deflate"}),
        ("jpeg.tif", colour, {"compression": "jpeg"}),
        ("pages.tif", picture.resize((5, 6)), {"save_all": True, "append_images": [picture]}),
    ):
        one.save(folder / name, **options)
    return sorted(folder.iterdir())


def damaged_files(folder: Path, sources: list[Path], numbers: range) -> list[Path]:
    """One damaged file per number, alternating between formats, the same in every run."""
    folder.mkdir()
    files = []
    for number in numbers:
        dice, source = random.Random(number), sources[number % len(sources)]
        spoil = damaged_inside if source.name.startswith("inside") else damaged
        files.append(folder / f"{number}-{source.name}")
        files[-1].write_bytes(spoil(source.read_bytes(), dice))
    return files


def _packed_zeros(blocks: int) -> bytes:
    """A gzip file of `blocks` times 64 MiB of zeros. The packed block is repeated: packing all takes half a minute."""
    block = bytes(GIB // 16)
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = pack.compress(block) + pack.flush(zlib.Z_FULL_FLUSH)
    check = 0
    for _ in range(blocks):
        check = zlib.crc32(block, check)
    head, end = b"\x1f\x8b\x08" + bytes(6) + b"\xff", struct.pack("<II", check, blocks * len(block) % (1 << 32))
    return head + packed * blocks + pack.flush() + end


def bombs(folder: Path) -> list[Path]:
    """Valid small files that would fill the memory."""
    from PIL import Image

    folder.mkdir()
    packed = _packed_zeros(5 * 16)
    sizes = "type: uchar\ndimension: 3\nsizes: 1024 1024 5120\nencoding: gzip\n\n"
    (folder / "zeros.nrrd").write_bytes(b"NRRD0004\n" + sizes.encode() + packed)
    with (folder / "white.png").open("wb") as file:
        Image.new("1", (16000, 16000), 1).save(file)
    Image.new("1", (16000, 16000), 1).save(folder / "white.tif", compression="group4")
    return sorted(folder.iterdir())


def _read(path: Path) -> str:
    """The outcome: read, refused in one line, or a fault."""
    import numpy as np

    from fasttextdiff.errors import FastTextDiffError
    from fasttextdiff.io.read import read_volume

    try:
        volume = read_volume(path)
    except FastTextDiffError as refusal:
        return "refused" if "\n" not in str(refusal) else f"fault: two lines: {refusal!r}"
    except BaseException:
        return f"fault: {traceback.format_exc()!r}"
    is_finite = np.isfinite(volume.ijk_to_ras).all() and np.isfinite(volume.array[:1]).all()
    return "read" if is_finite else "fault: not finite"


def _limit() -> None:
    """Limit memory and time to what a small file may take; the process ends if it takes more."""
    import resource  # not on Windows

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)


def main() -> None:
    """Read the named files, one after the other."""
    import nibabel  # noqa: F401
    import PIL.Image  # noqa: F401
    import pydicom  # noqa: F401
    import SimpleITK  # noqa: F401

    import fasttextdiff.io.read  # noqa: F401

    _limit()
    for name in sys.argv[1:]:
        print("begin", name, flush=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        print("end", name, _read(Path(name)), flush=True)


if __name__ == "__main__":
    main()

"""Segments the bundled sample images from typed findings and draws one picture of all results.

Also an example of the engine as a library: read, segment, write. Run it with `python3 run.py demo`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fasttextdiff import Segmenter, read_volume, write_segmentation
from fasttextdiff.render.contact_sheet import draw_preview
from fasttextdiff.version import DISCLAIMER

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "Resources" / "samples"


@dataclass(frozen=True)
class Case:
    """One image, and what to look for in it."""

    name: str
    path: str
    findings: tuple[str, ...]


CASES = (
    Case("clear_xray", "cxr_hannover/18017511.png", ("left lung", "right lung", "opacity in the left lung")),
    Case("xray", "cxr_hannover/1d40779e.png", ("left lung", "opacity in the right lung", "heart", "nuclei")),
    Case("chest_ct", "chest_ct/chest_ct_cropped.nii.gz", ("left lung", "right lung", "infection")),
    Case("abdominal_ct_dicom", "abdominal_ct_dicom", ("liver", "right kidney")),
    Case("brain_mr", "brain_mr/brain1_image.nrrd", ("brain tumour",)),
    Case("histology", "histology/4d14a3629b6af6de.png", ("cell nuclei", "left lung")),
)
FAILURES = (
    Case("false_positives", "chest_ct/chest_ct_cropped.nii.gz", ("infection",)),
    Case("wrong_organ", "abdominal_ct_dicom", ("liver",)),
    Case("wrong_chamber", "chest_ct/chest_ct_cropped.nii.gz", ("right atrium",)),
    Case("islands", "brain_mr/brain1_image.nrrd", ("brain tumour",)),
)
"""Explained in docs/failures.md."""


def main() -> None:
    """Segment every case, and print the results and output files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failures", action="store_true", help="segment cases that fail instead")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "demo", help="folder for the results")
    options = parser.parse_args()
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    segmenter = Segmenter()
    pictures = [run(segmenter, case, output) for case in (FAILURES if options.failures else CASES)]
    picture = output / "demo.png"
    collage(pictures).save(picture)
    print(
        f"\nThe whole picture: {picture}\nOpen the .seg.nrrd files in 3D Slicer together with {SAMPLES}\n{DISCLAIMER}"
    )


def run(segmenter: Segmenter, case: Case, output: Path) -> Image.Image:
    """Segment one case, write `.seg.nrrd`, `.nii.gz` and a PNG, and return the picture."""
    start = time.perf_counter()
    volume = read_volume(SAMPLES / case.path)
    result = segmenter.segment(volume, case.findings)
    seconds = time.perf_counter() - start
    print(f"\n{case.name}: {case.path}, {len(result.presence[case.findings[0]])} slice(s), {seconds:.1f} s")
    for found in result.findings:
        voxels = int(found.mask.sum())
        amount = f"{voxels:,} px" if volume.is_planar else f"{voxels * volume.voxel_ml:.0f} ml"
        print(f"  {found.finding:<28} {amount if voxels else found.absence}")
    written = [output / f"{case.name}.seg.nrrd", output / f"{case.name}.nii.gz"]
    for path in written:
        write_segmentation(result, path)
    picture = draw_preview(result)
    picture.save(output / f"{case.name}.png")
    print(f"  wrote {output / case.name}.seg.nrrd, .nii.gz, .png")
    return picture


def collage(pictures: list[Image.Image]) -> Image.Image:
    """Two columns of pictures of equal width, each added to the shorter column."""
    width = 1400
    columns: list[list[Image.Image]] = [[], []]
    for picture in pictures:
        fitted = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
        min(columns, key=lambda column: sum(p.height for p in column)).append(fitted)
    page = Image.new(
        "RGB", (2 * width, max(sum(p.height for p in column) for column in columns)), pictures[0].getpixel((0, 0))
    )
    for x, column in enumerate(columns):
        y = 0
        for fitted in column:
            page.paste(fitted, (x * width, y))
            y += fitted.height
    return page


if __name__ == "__main__":
    main()

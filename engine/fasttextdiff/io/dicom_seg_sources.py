"""The DICOM images that a Segmentation refers to: checks that it can, and prepares their headers for highdicom.

Knows headers; knows nothing about segments and does not read pixels.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from fasttextdiff.errors import FastTextDiffError, UsageError
from fasttextdiff.image.volume import Source, Volume

USE_INSTEAD = "write .seg.nrrd or .nii.gz instead"
UTF_8 = "ISO_IR 192"  # Specific Character Set (0008,0005): findings are typed in any language
# Attributes that the header of an image must have, even if empty (PS3.3 C.7.1.1, C.7.2.1), and their valid values;
# anonymisers remove them or write invalid ones.
_PATIENT_AND_STUDY = {
    "PatientID": ".*",
    "PatientName": ".*",
    "PatientBirthDate": r"\d{8}",
    "PatientSex": "[MFO]",
    "AccessionNumber": ".*",
    "StudyID": ".*",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
}


def check_source(volume: Volume) -> None:
    """Refuse a volume whose segmentation could not refer to its images, before time is spent on it.

    Raises:
        UsageError: the volume is not from DICOM, its files lack unique UIDs, it has no frame of reference, or it is
            from several multi-frame objects.
    """
    source = volume.source
    if not source.frames:
        raise UsageError(
            f"{source.path or 'the image'}: DICOM SEG must refer to DICOM images, and this is not one; {USE_INSTEAD}"
        )
    if not (source.instance_uids and source.series_uid and source.study_uid):
        raise UsageError(f"{source.path}: the images lack UIDs that DICOM SEG must refer to; {USE_INSTEAD}")
    if not (volume.is_planar or source.frame_of_reference_uid):
        raise UsageError(
            f"{source.path}: the images have no Frame of Reference UID, needed by DICOM SEG; {USE_INSTEAD}"
        )
    files = {file for file, _ in source.frames}
    uids = {uid for (file, _), uid in zip(source.frames, source.instance_uids, strict=True)}
    if len(uids) < len(files):
        raise UsageError(
            f"{source.path}: {len(files)} files share {len(uids)} SOP Instance UIDs, so that DICOM SEG cannot refer to "
            f"each; {USE_INSTEAD}"
        )
    if len(files) > 1 and len(files) < len(source.frames):
        raise UsageError(f"{source.path}: DICOM SEG cannot refer to {len(files)} multi-frame objects; {USE_INSTEAD}")


def source_images(volume: Volume) -> list[Any]:
    """Headers of the source images in slice order, completed and harmonised where highdicom is strict.

    Returns:
        One dataset per slice, or a single one with as many frames as slices if the source is a multi-frame object.
    """
    source = volume.source
    uid_of = {file: uid for (file, _), uid in zip(source.frames, source.instance_uids, strict=True)}
    images = [_read_header(source, file, uid) for file, uid in uid_of.items()]
    for image in images:
        _complete(image)
        if volume.is_planar:
            _remove_geometry(image)
        elif "PerFrameFunctionalGroupsSequence" in image:
            _keep_frames(image, volume)
        else:
            # The reader accepted them as parallel; with their different digits they would not be.
            image.ImageOrientationPatient = images[0].ImageOrientationPatient
            _measure(image, image.get("PixelSpacing"), image.get("SliceThickness"), volume)
    return images


def _read_header(source: Source, file: str, uid: str) -> Any:
    import pydicom

    try:
        image = pydicom.dcmread(file, stop_before_pixels=True)
    except (OSError, pydicom.errors.InvalidDicomError):
        image = None
    if image is None or image.get("SOPInstanceUID") != uid:
        raise FastTextDiffError(f"{source.path}: the images were moved or changed since they were read; start again")
    if not image.get("SOPClassUID"):
        raise FastTextDiffError(
            f"{source.path}: the images lack the SOP Class UID that DICOM SEG must refer to; {USE_INSTEAD}"
        )
    return image


def _complete(image: Any) -> None:
    """Set required attributes to an empty value if they are missing or not valid."""
    for keyword, valid in _PATIENT_AND_STUDY.items():
        if keyword not in image or not re.fullmatch(valid, str(image[keyword].value or ""), re.DOTALL):
            setattr(image, keyword, "")
    image.SpecificCharacterSet = UTF_8  # highdicom 0.28 copies it


def _remove_geometry(image: Any) -> None:
    """A projection has no position in the patient: its segmentation matches it pixel by pixel (PS3.3 A.51.5)."""
    from pydicom import Dataset

    if "FrameOfReferenceUID" in image:
        del image.FrameOfReferenceUID
    # highdicom requires these for SOP classes that may be cine clips (XA, RF), even for a single picture.
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = image.get("PixelSpacing") or [1, 1]
    shared.PixelMeasuresSequence = [measures]
    image.SharedFunctionalGroupsSequence, image.NumberOfFrames = [shared], 1


def _keep_frames(image: Any, volume: Volume) -> None:
    """Reduce the functional groups to the positions of the frames that are slices of the volume, in slice order."""
    from pydicom import Dataset

    frames = [frame for _, frame in volume.source.frames]
    measures = _functional_group(image, frames[0], "PixelMeasuresSequence")[0]
    shared, places = Dataset(), []
    shared.PlaneOrientationSequence = _functional_group(image, frames[0], "PlaneOrientationSequence")
    shared.PixelMeasuresSequence = [Dataset()]
    _measure(shared.PixelMeasuresSequence[0], measures.get("PixelSpacing"), measures.get("SliceThickness"), volume)
    for frame in frames:
        place = Dataset()
        place.PlanePositionSequence = _functional_group(image, frame, "PlanePositionSequence")
        places.append(place)
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = places
    image.NumberOfFrames = len(frames)


def _functional_group(image: Any, frame: int, macro: str) -> Any:
    """A frame's own functional group, else the shared one (PS3.3 section C.7.6.16.1)."""
    own = image.PerFrameFunctionalGroupsSequence[frame - 1]
    return own[macro].value if macro in own else image.SharedFunctionalGroupsSequence[0][macro].value


def _measure(item: Any, spacing: Any, thickness: Any, volume: Volume) -> None:
    """Set Pixel Measures (PS3.3 section C.7.6.16.2.1): from the source, but with the true slice spacing."""
    axes = volume.ijk_to_ras[:3, :3]
    normal = np.cross(axes[:, 0], axes[:, 1])
    distance = round(float(abs(axes[:, 2] @ normal) / np.linalg.norm(normal)), 6)
    item.PixelSpacing = spacing or [volume.spacing[1], volume.spacing[0]]
    item.SliceThickness = thickness or distance
    item.SpacingBetweenSlices = distance

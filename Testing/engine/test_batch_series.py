"""Batches of series with missing slices or unreliable UIDs: taken completely, or skipped with the reason."""

from __future__ import annotations

import pytest
from dicom_files import write_slice
from test_hounsfield import chest

from fasttextdiff.batch.contents import contents_of
from fasttextdiff.batch.selection import Choice, choose_series

HU = chest()


def write_series(folder, **attributes):
    for n, pixels in enumerate(HU):
        write_slice(folder / f"i{n}.dcm", pixels, **{"ImagePositionPatient": [0, 0, 2 * n], **attributes})
    return folder


def chosen(folder):
    kept, skipped = choose_series(contents_of(folder, None).dicom, Choice())
    return [one.images for one in kept], [one.reason for one in skipped]


@pytest.mark.parametrize("copied", [False, True])
def test_slices_with_the_same_uid_are_not_copies_and_copies_are_taken_once(tmp_path, copied):
    write_series(tmp_path / "a", SOPInstanceUID="1.2.3")
    if copied:
        write_series(tmp_path / "b", SOPInstanceUID="1.2.3")
    images, reasons = chosen(tmp_path)
    assert images == [6]
    assert len(reasons) == copied


@pytest.mark.parametrize("length", [0, 100, 140, 200])
def test_a_series_next_to_an_unreadable_file_is_skipped_with_the_reason(tmp_path, length):
    """The rest of the file no longer identifies its series."""
    last = write_series(tmp_path / "spoilt") / "i5.dcm"
    write_series(tmp_path / "whole", SeriesInstanceUID="1.2.3.4")
    last.write_bytes(last.read_bytes()[:length])
    images, reasons = chosen(tmp_path)
    assert images == [6]
    assert any("the series is incomplete: 1 of its files" in reason for reason in reasons)


def test_a_series_with_a_dangling_link_is_skipped_with_the_reason(tmp_path):
    last = write_series(tmp_path) / "i5.dcm"
    last.unlink()
    last.symlink_to("annex/objects/i5.dcm")
    images, reasons = chosen(tmp_path)
    assert images == []
    assert any("the series is incomplete: 1 of its files" in reason for reason in reasons)


def test_other_files_next_to_a_series_are_not_missing_slices(tmp_path):
    write_series(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert chosen(tmp_path)[0] == [6]

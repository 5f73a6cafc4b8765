"""Modules can still be imported by their names from before the engine was split into packages, with a warning.

Knows names only; loads nothing until an old name is imported.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_PACKAGE = "fasttextdiff."
FORMER = {
    **{name: f"image.{name}" for name in ("volume", "orientation", "preprocessing", "hounsfield")},
    "findings": "contract.findings",
    "terminology": "segments.terminology",
    "segment_tags": "segments.tags",
    "reading": "io.read",
    "dicom_reading": "io.read_dicom",
    "nifti_reading": "io.read_nifti",
    **{f"dicom_{name}": f"io.dicom_{name}" for name in ("headers", "pixels", "projection", "stack", "encoding")},
    "writing": "io.write",
    "seg_nrrd": "io.write_seg_nrrd",
    "dicom_seg": "io.write_dicom_seg",
    "nrrd": "io.nrrd",
    "output_files": "io.atomic",
    "file_checks": "io.file_checks",
    "overwriting": "io.overwriting",
    **{name: f"model.{name}" for name in ("text_encoder", "denoiser", "fusion", "pipeline", "feature_cache")},
    **{name: f"model.{name}" for name in ("published", "convert", "allocator")},
    "model_info": "model.info",
    "preview": "render.contact_sheet",
    "preview_tiles": "render.tiles",
    "captions": "render.captions",
    "tables": "render.tables",
    **{name: f"evaluation.{name}" for name in ("datasets", "calibration", "bootstrap")},
    "evaluation_texts": "evaluation.texts",
    "control": "evaluation.side_control",
}
"""Old module name to new one, both within the package."""


class FormerNames(MetaPathFinder, Loader):
    """Finds modules by their old names; asked last, when the import would otherwise fail."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the specification of a module with an old name (PEP 451), else None."""
        is_former = fullname.startswith(_PACKAGE) and fullname.removeprefix(_PACKAGE) in FORMER
        return ModuleSpec(fullname, self) if is_former else None

    def exec_module(self, module: ModuleType) -> None:
        """Look up every name in the module's new place."""
        former = module.__name__
        new = _PACKAGE + FORMER[former.removeprefix(_PACKAGE)]
        warnings.warn(f"{former} is now {new}", DeprecationWarning, stacklevel=2)
        module.__dict__["__getattr__"] = partial(getattr, import_module(new))


def install() -> None:
    """Register the finder, once."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())

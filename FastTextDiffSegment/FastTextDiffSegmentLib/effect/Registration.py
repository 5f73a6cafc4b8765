"""Registers the effect "Text finding" with the Segment Editor. Knows where its file is, not what it does."""

from pathlib import Path

EFFECT = Path(__file__).resolve().parents[2] / "FastTextDiffSegmentEffect" / "TextFinding.py"
"""Slicer names the Python module after the folder, so the folder has a name that no other extension uses."""


def registerEffect() -> None:
    """Add the effect to every Segment Editor; called once, when Slicer has started."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    instance = effects.qSlicerSegmentEditorScriptedEffect(None)
    instance.setPythonSource(EFFECT.as_posix())
    instance.self().register()

"""The contract with the engine: the files of its package `fasttextdiff/contract`, from the engine beside the module.

Never from an installed package `fasttextdiff`, which may be of another version. Knows nothing of what is in them.
"""

from FastTextDiffSegmentLib.engine.EnginePath import engineFolder

__path__ = [str(engineFolder() / "fasttextdiff" / "contract")]

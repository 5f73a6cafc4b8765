"""The contract with the engine: the files of its package `fasttextdiff/contract`, from the engine next to the module.

Never from an installed package `fasttextdiff`, which may have another version. Knows nothing about their content.
"""

from FastTextDiffSegmentLib.engine.EnginePath import engineFolder

__path__ = [str(engineFolder() / "fasttextdiff" / "contract")]

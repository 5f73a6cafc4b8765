"""How long a user waits when scrolling with the live preview: slice by slice, and in unpredictable steps.

    python Testing/benchmarks/scrolling.py VOLUME

asks the engine's process, as the module does, for one finding on slice after slice, with pauses between an answer and
the next request. In the pauses the process encodes the neighbouring slices, which does not help steps of five slices.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from fasttextdiff import read_volume

FINDING = "left lung"


class Engine:
    """The engine's process and a volume in it.

    Args:
        path: of the volume.
        folder: for the exchanged arrays.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "fasttextdiff", "worker"]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self._folder = folder
        self._ask("open", model=None, device="cpu")
        volume = read_volume(path)
        file = folder / "voxels.raw"
        np.ascontiguousarray(volume.array).tofile(file)
        self.slices = len(volume.array)
        self._ask(
            "open_volume",
            volume="v",
            voxels={"file": str(file), "dtype": volume.array.dtype.name, "shape": list(volume.array.shape)},
            ijk_to_ras=volume.ijk_to_ras.ravel().tolist(),
            modality=volume.modality.value,
        )

    def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"id": 1, "op": op, **fields}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            message: dict[str, Any] = json.loads(line)
            if message["event"] in ("done", "error"):
                break
        if message["event"] == "error":
            raise SystemExit(message["message"])
        return message

    def seconds(self, index: int) -> float:
        """Seconds until the answer for one slice."""
        start = time.perf_counter()
        self._ask("segment", volume="v", findings=[FINDING], slices=[index, index + 1], output=str(self._folder))
        return time.perf_counter() - start

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("volume", type=Path)
    parser.add_argument("--pauses", type=float, nargs="+", default=[0.1, 0.3, 0.5, 1.0], help="seconds")
    parser.add_argument("--steps", type=int, default=15, help="slices shown for each figure")
    options = parser.parse_args()
    print("pause     one by one     five by five")
    for pause in options.pauses:
        waited = [_median(options.volume, pause, stride, options.steps) for stride in (1, 5)]
        print(f"{pause:4.1f} s  {1e3 * waited[0]:8.0f} ms  {1e3 * waited[1]:12.0f} ms")


def _median(path: Path, pause: float, stride: int, steps: int) -> float:
    """Median wait in seconds, in a new process; the first slice is never cached and does not count."""
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(path, Path(folder))
        waited = []
        for n in range(steps + 1):
            waited.append(engine.seconds(n * stride % engine.slices))
            time.sleep(pause)
        engine.close()
    return statistics.median(waited[1:])


if __name__ == "__main__":
    main()

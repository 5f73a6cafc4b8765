"""Segments an X-ray with an installed engine and prints the result as JSON; run in its own process.

Usage: python -I -S installed_engine.py EXTENSION_FOLDER PACKAGES_FOLDER IMAGE. Knows nothing about the checkout.
"""

import json
import sys

installed, packages, image = sys.argv[1:]
sys.path[:0] = [installed]
sys.path.append(packages)  # -S: nothing else from that folder is added, such as the checkout's editable install

import numpy as np  # noqa: E402 - the path comes first

for name in ("torch", "diffusers", "transformers"):
    sys.modules[name] = None  # as on a computer without them: importing fails

import fasttextdiff  # noqa: E402
from fasttextdiff import Segmenter, read_volume  # noqa: E402

segmenter = Segmenter(device="cpu", runtime="openvino")
mask = segmenter.segment(read_volume(image), ["left lung"]).mask["left lung"]
columns = np.nonzero(mask)[2] / mask.shape[2]
found = {
    "engine": fasttextdiff.__file__,
    "share": mask.mean(),
    "right_half": (columns > 0.5).mean() if len(columns) else 0,
}
print(json.dumps(found))

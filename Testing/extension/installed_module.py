"""Loads an installed module as Slicer does, segments an X-ray through its logic and prints what happened as JSON.

Usage: python -I -S installed_module.py EXTENSION_FOLDER PACKAGES_FOLDER IMAGE HOST_FOLDER, in its own process.
Knows nothing about the checkout.
"""

import json
import sys

installed, packages, image, host_folder = sys.argv[1:]
sys.path[:0] = [installed, host_folder]
sys.path.append(packages)  # -S: nothing else from that folder is added, such as the checkout's editable install

import numpy as np  # noqa: E402 - the path comes first
import slicer  # noqa: E402
import slicerhost  # noqa: E402
from PIL import Image  # noqa: E402

host = slicerhost.start(window=False)
module, panel = host.loadModule(f"{installed}/FastTextDiffSegment.py")

# as Slicer reads a picture: one slice, the first pixel at the patient's right and front
pixels = np.asarray(Image.open(image))[np.newaxis]
volume = slicer.util.addVolumeFromArray(pixels, ijkToRAS=np.diag([-1.0, -1.0, 1.0, 1.0]), name="X-ray")
segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
logic = module.FastTextDiffSegmentLogic()
(finding,) = logic.segment(volume, ["left lung"], outputSegmentationNode=segmentation, modality="xray")
mask = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, finding.segmentId, volume) > 0
logic.close()

from FastTextDiffSegmentLib.engine.EnginePath import engineFolder  # noqa: E402 - the module is loaded by the host first

columns = np.nonzero(mask)[2] / mask.shape[2]
found = {
    "module": module.__file__,
    "engine": str(engineFolder()),
    "heavy": sorted({"torch", "fasttextdiff"} & set(sys.modules)),
    "errors": host.takeErrors(),
    "share": mask.mean(),
    "right_half": (columns > 0.5).mean() if len(columns) else 0,
}
host.unloadModule("FastTextDiffSegment")
print(json.dumps(found))

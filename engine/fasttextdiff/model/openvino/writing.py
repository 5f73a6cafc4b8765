"""Writes the converted networks of a model with an answer of PyTorch for comparison; needs PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fasttextdiff.environment import load_openvino
from fasttextdiff.model.openvino import package
from fasttextdiff.model.openvino.networks import converted, reference_answer
from fasttextdiff.model.openvino.self_check import SEED, check_finding, check_image
from fasttextdiff.model.pipeline import FastTextDiffPipeline, quiet_libraries


def write_package(pipeline: FastTextDiffPipeline, model_folder: Path, folder: Path, made_from: str) -> None:
    """Write graphs, constants, the answer for the self-check, and the record.

    Args:
        pipeline: the model, on the CPU in float32.
        model_folder: of its weights.
        folder: an empty folder.
        made_from: hash of the networks.

    Raises:
        ModelError: a network cannot be converted.
    """
    openvino = load_openvino()
    quiet_libraries()
    tensors = package.tensor_digests(model_folder)
    constants = {name: package.write_network(network, name, folder, tensors) for name, network in converted(pipeline)}
    settings = pipeline.settings
    finding = check_finding(settings)
    odds, presence = reference_answer(pipeline, check_image(settings), finding, SEED)
    package.write_record(
        folder,
        made_from,
        constants,
        openvino=openvino.__version__,
        check={"finding": finding, "presence": presence, "odds": np.round(odds, 3).tolist()},
    )

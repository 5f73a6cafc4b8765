"""Converted networks in a folder: OpenVINO's graphs, whose constants are read from the weights of the model.

A graph without its weights is small, so that it can be shipped with them. Knows files and arrays; loads no torch.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.environment import load_openvino, openvino_core
from fasttextdiff.errors import ModelError, one_line
from fasttextdiff.io.json_files import parse_json

ENCODE, DECODE, TEXT = "encode", "decode", "text"
NETWORKS = (ENCODE, DECODE, TEXT)
RECORD = "networks.json"
FORMAT = 2
_SMALL = 256
"""Bytes; smaller constants stay with the graph."""


@dataclass(frozen=True)
class Constants:
    """Where the bytes of a graph's constants come from.

    Attributes:
        size: bytes of all constants.
        tensors: (offset, tensor) of constants that are tensors of the model; "unet/conv_in.weight" is a tensor of
            the weights in folder `unet`, here as float32.
        rest: (offset, bytes) of the others, which lie one after another in a file.
    """

    size: int
    tensors: list[tuple[int, str]]
    rest: list[tuple[int, int]]


def write_network(model: Any, name: str, folder: Path, tensors: Mapping[str, str]) -> Constants:
    """Write a graph and the constants that are not weights of the model.

    Args:
        model: an `openvino.Model` in float32.
        name: of the network.
        folder: where it is written.
        tensors: digest to tensor, from :func:`tensor_digests`.
    """
    openvino = load_openvino()
    with tempfile.TemporaryDirectory() as temporary:
        graph, binary = Path(temporary) / "graph.xml", Path(temporary) / "graph.bin"
        openvino.serialize(model, graph, binary)
        text, data = graph.read_bytes(), binary.read_bytes()
    known, rest = [], []
    for offset, size in sorted(_constants(text)):
        tensor = tensors.get(_digest(data[offset : offset + size])) if size >= _SMALL else None
        if tensor is None:
            rest.append((offset, size))
        else:
            known.append((offset, tensor))
    (folder / f"{name}.xml.gz").write_bytes(gzip.compress(text, mtime=0))
    joined = b"".join(data[offset : offset + size] for offset, size in rest)
    (folder / f"{name}.bin.gz").write_bytes(gzip.compress(joined, mtime=0))
    return Constants(len(data), known, rest)


def _constants(graph: bytes) -> set[tuple[int, int]]:
    """(offset, bytes) of every constant of a graph."""
    layers = ET.fromstring(graph).iter("layer")
    data = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    return {(int(found.attrib["offset"]), int(found.attrib["size"])) for found in data if found is not None}


def write_record(folder: Path, made_from: str, constants: Mapping[str, Constants], **more: Any) -> None:
    """Write the record that makes the folder complete; `made_from` is the hash of the model's networks."""
    record = {
        "format": FORMAT,
        "made_from": made_from,
        "networks": {name: asdict(value) for name, value in constants.items()},
        **more,
    }
    (folder / RECORD).write_text(json.dumps(record) + "\n", encoding="utf-8")


def read_record(folder: Path, made_from: str) -> dict[str, Any]:
    """The record of a folder with the converted networks of a model.

    Args:
        folder: of the converted networks.
        made_from: hash of the model's networks.

    Raises:
        ModelError: it is missing, damaged, or belongs to other networks or to another version.
    """
    try:
        record = parse_json((folder / RECORD).read_text(encoding="utf-8"))
        found, version = record["made_from"], record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} holds no converted networks: {one_line(error)}") from error
    if (found, version) != (made_from, FORMAT):
        raise ModelError(f"the networks in {folder} were converted from another model, or by another version")
    return dict(record)


def read_networks(folder: Path, record: Mapping[str, Any], model_folder: Path) -> dict[str, Any]:
    """The graphs with their constants, as `openvino.Model` by name.

    Args:
        folder: of the converted networks.
        record: from :func:`read_record`.
        model_folder: of the weights.

    Raises:
        ModelError: a file is missing or damaged.
    """
    openvino = load_openvino()
    try:
        stored = {name: Constants(**record["networks"][name]) for name in NETWORKS}
        wanted = {tensor for constants in stored.values() for _, tensor in constants.tensors}
        tensors = dict(_tensors(model_folder, wanted))
        core, networks = openvino_core(), {}
        for name, constants in stored.items():
            graph = gzip.decompress((folder / f"{name}.xml.gz").read_bytes())
            rest = gzip.decompress((folder / f"{name}.bin.gz").read_bytes())
            networks[name] = core.read_model(graph, openvino.Tensor(_assembled(constants, rest, tensors)))
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"the converted networks in {folder} cannot be read: {one_line(error)}") from error
    return networks


def _assembled(constants: Constants, rest: bytes, tensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.uint8]:
    """All constants of a graph as bytes."""
    data = np.zeros(constants.size, np.uint8)
    for offset, name in constants.tensors:
        values = tensors[name].view(np.uint8)
        data[offset : offset + values.size] = values
    start = 0
    for offset, size in constants.rest:
        data[offset : offset + size] = np.frombuffer(rest, np.uint8, size, start)
        start += size
    return data


def tensor_digests(model_folder: Path) -> dict[str, str]:
    """Digest of the float32 bytes of every weight of a model, to its name."""
    return {_digest(values.tobytes()): name for name, values in _tensors(model_folder, None)}


def _tensors(model_folder: Path, wanted: set[str] | None) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Weights of a model as flat float32 arrays; all floating-point ones that numpy can read if none are named."""
    from safetensors import safe_open

    for path in sorted(model_folder.glob("*/*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for key in file.keys():  # noqa: SIM118  (not a mapping)
                name = f"{path.parent.name}/{key}"
                readable = file.get_slice(key).get_dtype() in ("F16", "F32")
                if readable and (wanted is None or name in wanted):
                    yield name, np.ascontiguousarray(file.get_tensor(key), np.float32).ravel()


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()

"""Runs the networks with OpenVINO: images to maps, maps and words to results.

Knows arrays and devices; knows nothing about volumes or the cache, and loads no torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fasttextdiff.environment import load_openvino, openvino_core
from fasttextdiff.errors import Cancelled, DeviceMemoryError, UsageError, one_line
from fasttextdiff.image.preprocessing import Fit, fitted
from fasttextdiff.model.feature_cache import Maps
from fasttextdiff.model.noise import standard_normal
from fasttextdiff.model.openvino.compiled import compiled, key_of
from fasttextdiff.model.openvino.package import DECODE, ENCODE, TEXT
from fasttextdiff.model.runtime import EncodedFindings
from fasttextdiff.model.settings import ModelSettings
from fasttextdiff.model.tokens import RecentTexts, Tokens

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
SIZES_KEPT = 3
"""Sizes of images whose networks are kept, of 80 MB each; images of any size count as one."""
FEW_WORDS = 16
"""Tokens of a finding, [CLS] and [SEP] included, for which the networks of one size are made."""
_ASK_MS = 10
"""Milliseconds between two checks whether to continue."""


class OpenVinoRuntime:
    """A model on a device; see :class:`fasttextdiff.model.runtime.Runtime`.

    Images and findings run one at a time, so that the bits of a result do not depend on what else was asked.

    Args:
        settings: of the model.
        tokens: its tokenizer.
        networks: `openvino.Model` by name.
        device: "auto" (the CPU), "cpu", "gpu" (Intel), "npu".
        dtype: "auto" (bfloat16 on a CPU that has it, else float32), or a name.
        kept: folder of compiled networks, which make the next start faster; None for none.
        made_from: hash of the networks, needed with `kept`.
        threads: CPU threads; None for all cores.

    Raises:
        UsageError: the device is not available, or cannot compute in this dtype.

    Attributes:
        identity: equal for the same networks, dtype and OpenVINO on the same kind of processor.
    """

    name = "openvino"
    batch = 1
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        settings: ModelSettings,
        tokens: Tokens,
        networks: Mapping[str, Any],
        device: str = "auto",
        dtype: str = "auto",
        kept: Path | None = None,
        made_from: str = "",
        threads: int | None = None,
    ) -> None:
        openvino = load_openvino()
        core = openvino_core()
        self.version = f"openvino {openvino.__version__.partition('-')[0]}"
        self.settings, self._tokens = settings, tokens
        self.device = choose_device(device, core.available_devices)
        self.dtype = choose_dtype(core, self.device, dtype)
        self._config = _config(self.device, self.dtype, threads)
        self.identity = key_of(core, self.device.upper(), self._config, f"{made_from} {openvino.__version__}")
        self._compile = lambda network, name: self._request(
            core, network, kept, f"{made_from} {name} {openvino.__version__}"
        )
        self._text_network, self._decoder = (self._compile(networks[name], name) for name in (TEXT, DECODE))
        self._networks = networks
        self._encoders: OrderedDict[tuple[int, int] | None, Any] = OrderedDict()
        self._decoders: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._texts: RecentTexts[NDArray[np.float32]] = RecentTexts()
        self._go_on: Callable[[], bool] | None = None

    def _request(self, core: Any, network: Any, kept: Path | None, name: str) -> Any:
        """An inference request; a second one would only help if several images ran at a time."""
        try:
            return compiled(core, network, self.device.upper(), self._config, kept, name).create_infer_request()
        except RuntimeError as error:
            raise UsageError(f"OpenVINO cannot use {self.device} with {self.dtype}: {one_line(error)}") from error

    def check(self, finding: str) -> None:
        """As for any runtime."""
        self._tokens.check(finding)

    def text(self, findings: Sequence[str]) -> EncodedFindings:
        """As for any runtime; each text is computed once, then cached."""
        rows = [self._texts.of(finding, self._states) for finding in findings]
        length = max(map(len, rows))
        states = np.stack([np.pad(row, ((0, length - len(row)), (0, 0))) for row in rows])
        return EncodedFindings(states, np.arange(length) < np.array([[len(row)] for row in rows]))

    def _states(self, finding: str) -> NDArray[np.float32]:
        """(L, D) of one text."""
        ids = np.array([self._tokens.ids(finding)], np.int64)
        (states,) = self._run(self._text_network, ids, np.ones_like(ids))
        return np.asarray(states[0])

    def maps(self, pixels: Sequence[NDArray[np.float32]], fit: Fit, seed: int) -> list[Maps]:
        """As for any runtime."""
        order = self.settings.preprocessing.channel_order
        encoder = self._encoder(fit)
        return [self._maps(encoder, fitted(image[None], fit, order), seed) for image in pixels]

    def _maps(self, encoder: Any, image: NDArray[np.float32], seed: int) -> Maps:
        return [scale[0] for scale in self._run(encoder, image, standard_normal(image.shape, seed))]

    def _encoder(self, fit: Fit) -> Any:
        """The network for images of any size, or the faster one for this size if there are many."""
        if not fit.is_frequent:
            return _kept(self._encoders, None, lambda: self._compile(self._networks[ENCODE], ENCODE))
        size = fit.padded
        shapes = [[1, 3, *size]] * 2
        return _kept(self._encoders, size, lambda: self._of_size(ENCODE, size, shapes))

    def _of_size(self, name: str, size: tuple[int, int], shapes: Sequence[Sequence[int]]) -> Any:
        """A network compiled for one size of images.

        Args:
            name: of the network.
            size: rows and columns.
            shapes: of its inputs.
        """
        network = self._networks[name].clone()
        network.reshape(dict(enumerate(shapes)))
        return self._compile(network, f"{name} {size}")

    def answers(
        self, maps: Sequence[Maps], fit: Fit, text: EncodedFindings
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As for any runtime."""
        size = np.zeros(fit.padded, np.uint8)
        found = [
            self._answer(image, fit, size, states[mask]) for image in maps for states, mask in zip(*text, strict=True)
        ]
        odds, presence = (np.stack([pair[n][0] for pair in found]) for n in range(2))
        shape = len(maps), len(text.states)
        return fit.inverse(odds).reshape(*shape, *fit.source), presence.reshape(shape)

    def _answer(
        self, maps: Maps, fit: Fit, size: NDArray[np.uint8], states: NDArray[np.float32]
    ) -> list[NDArray[np.float32]]:
        """Log-odds (1, h, w) and presence (1,) for the token states (L, D) of one finding."""
        decoder, length = self._decoder, len(states)
        if fit.is_frequent and length <= FEW_WORDS:
            decoder = _kept(self._decoders, fit.padded, lambda: self._few_words(maps, fit.padded, states.shape[1]))
            states = np.pad(states, ((0, FEW_WORDS - length), (0, 0)))
        mask = np.arange(len(states)) < length
        return self._run(decoder, states[None], mask[None], size, *(scale[None] for scale in maps))

    def _few_words(self, maps: Maps, size: tuple[int, int], width: int) -> Any:
        """The decoder for one size of images and few words."""
        shapes = [[1, FEW_WORDS, width], [1, FEW_WORDS], size, *([1, *scale.shape] for scale in maps)]
        return self._of_size(DECODE, size, shapes)

    def _run(self, request: Any, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """The outputs of a network, copied, because OpenVINO writes the next results into the same memory."""
        self._require_wanted()
        try:
            request.start_async(dict(enumerate(inputs)), share_inputs=True)
            while not request.wait_for(_ASK_MS):
                self._require_wanted(request)
        except RuntimeError as error:
            lack = lack_of_memory(error, self.device)
            if lack is None:
                raise
            raise lack from error
        return [np.array(output.data) for output in request.output_tensors]

    def _require_wanted(self, request: Any = None) -> None:
        """Stop, with the request that runs, as soon as nobody wants its result."""
        if self._go_on is None or self._go_on():
            return
        if request is not None:
            request.cancel()
            with suppress(RuntimeError):  # says that it was cancelled
                request.wait()
        raise Cancelled("stopped; nothing was changed")

    @contextmanager
    def interruptible(self, go_on: Callable[[], bool]) -> Iterator[None]:
        """As for any runtime."""
        self._go_on = go_on
        try:
            yield
        finally:
            self._go_on = None

    def release(self) -> None:
        """As for any runtime; OpenVINO keeps no unused memory."""


def _kept(requests: OrderedDict[Any, Any], key: Any, make: Callable[[], Any]) -> Any:
    """A request, made if it is missing; the one that was not used for longest is dropped."""
    if key not in requests:
        requests[key] = make()
        if len(requests) > SIZES_KEPT:
            requests.popitem(last=False)
    requests.move_to_end(key)
    return requests[key]


def _config(device: str, dtype: str, threads: int | None) -> dict[str, str]:
    """OpenVINO's settings; only its CPU plugin accepts a number of threads."""
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": PRECISIONS[dtype]}
    if threads is not None and device == "cpu":
        config["INFERENCE_NUM_THREADS"] = str(threads)
    return config


def choose_dtype(core: Any, device: str, name: str) -> str:
    """The dtype for a name.

    Args:
        core: an `openvino.Core`.
        device: "cpu", "gpu" or "npu".
        name: "auto", "float32", "bfloat16" or "float16".

    Raises:
        UsageError: the processor has no bfloat16; OpenVINO would compute in float32 and not say so.
    """
    if name == "bfloat16" and device == "cpu" and not _has_bfloat16(core):
        raise UsageError("this processor has no instructions for bfloat16: use --dtype float32")
    return fast_dtype(core, device) if name == "auto" else name


def _has_bfloat16(core: Any) -> bool:
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def fast_dtype(core: Any, device: str) -> str:
    """The fastest dtype whose masks were compared with those in float32 (docs/performance.md).

    Args:
        core: an `openvino.Core`.
        device: "cpu", "gpu" or "npu".
    """
    is_compared = device == "cpu" and _has_bfloat16(core)
    return "bfloat16" if is_compared else "float32"


def choose_device(name: str, available: Sequence[str]) -> str:
    """The device for a name.

    Args:
        name: "auto", "cpu", "gpu" or "npu".
        available: OpenVINO's devices, e.g. "CPU", "GPU.0".

    Raises:
        UsageError: it is not available.
    """
    device = "cpu" if name == "auto" else name
    if not any(there.lower().startswith(device) for there in available):
        advice = "install OpenVINO again" if device == "cpu" else "use --device cpu"
        raise UsageError(f"OpenVINO finds no {device} here: {advice}")
    return device


def lack_of_memory(error: RuntimeError, device: str) -> DeviceMemoryError | None:
    """The error to raise if a network failed because the device's memory is too small; else None."""
    if "alloc" not in str(error).lower():
        return None
    advice = "" if device == "cpu" else ": use --device cpu"
    return DeviceMemoryError(f"{device} has too little memory for one slice{advice}")

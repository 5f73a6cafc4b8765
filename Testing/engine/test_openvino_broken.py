"""Where OpenVINO itself is broken, torch takes its place and says why."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from fasttextdiff.errors import MissingPackagesError, ModelError, UsageError
from fasttextdiff.model import runtimes
from fasttextdiff.model.openvino import compiled as compiled_module
from fasttextdiff.model.openvino import runtime as runtime_module
from fasttextdiff.model.openvino.compiled import compiled, key_of
from fasttextdiff.model.openvino.package import FORMAT, read_record, write_record
from fasttextdiff.model.openvino.runtime import lack_of_memory
from fasttextdiff.model.runtimes import load_runtime


def test_a_package_that_cannot_be_imported_is_named_and_torch_is_used(monkeypatch):
    def fail():
        raise OSError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr(runtimes, "load_openvino", fail)
    runtime = load_runtime(None, "cpu")
    assert runtime.name == "torch"
    assert "OpenVINO is not used: OpenVINO cannot be loaded (libopenvino.so" in runtime.notes[0]
    with pytest.raises(MissingPackagesError, match=r"^OpenVINO cannot be loaded .*: install it again$"):
        load_runtime(None, "cpu", runtime="openvino")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_its_part_for_the_cpu_torch_is_used(monkeypatch, device):
    choose = runtime_module.choose_device
    monkeypatch.setattr(runtime_module, "choose_device", lambda name, _: choose(name, ["GPU.0"]))
    runtime = load_runtime(None, device)
    problem = "OpenVINO finds no cpu here: install OpenVINO again"
    assert (runtime.name, runtime.notes) == ("torch", (f"OpenVINO is not used: {problem}",))
    with pytest.raises(UsageError, match=f"^{problem}$"):
        load_runtime(None, device, runtime="openvino")


@pytest.mark.parametrize(("device", "advice"), [("gpu", ": use --device cpu"), ("cpu", "")])
def test_too_little_memory_is_one_line(device, advice):
    error = lack_of_memory(RuntimeError("from src/inference:\n[GPU] CL_MEM_OBJECT_ALLOCATION_FAILURE"), device)
    assert str(error) == f"{device} has too little memory for one slice{advice}"
    assert lack_of_memory(RuntimeError("from src/inference: shapes differ"), device) is None


def test_networks_of_another_version_are_not_read(tmp_path):
    write_record(tmp_path, "weights", {})
    assert read_record(tmp_path, "weights")["format"] == FORMAT
    path = next(tmp_path.iterdir())
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    with pytest.raises(ModelError, match="by another version"):
        read_record(tmp_path, "weights")


class Core:
    """Compiles any network to one that can be exported, of 1,000 bytes."""

    def get_property(self, *_):
        return "a processor"

    def compile_model(self, *_):
        return SimpleNamespace(export_model=lambda: SimpleNamespace(getbuffer=lambda: bytes(1000)))

    def import_model(self, content, *_):
        return content


def test_a_network_is_compiled_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    assert compiled(Core(), None, "CPU", {}, tmp_path / "file" / "compiled", "decode")
    assert compiled(Core(), None, "CPU", {}, tmp_path / "compiled", "decode")
    assert len(list((tmp_path / "compiled").iterdir())) == 1  # where it can be kept, it is


def test_compiled_networks_that_are_not_used_make_room_for_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled_module, "MOST_BYTES", 3500)
    for n, name in enumerate(("first", "second", "third", "first", "fourth")):
        compiled(Core(), None, "CPU", {}, tmp_path, name)
        for file in tmp_path.iterdir():  # file systems may count time in seconds
            age = file.stat().st_mtime
            if age > 1000:
                os.utime(file, (n, n))
    left = {file.stem for file in tmp_path.iterdir()}
    assert left == {key_of(Core(), "CPU", {}, name) for name in ("first", "third", "fourth")}

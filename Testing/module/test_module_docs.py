"""The calls on the page about the module work as they are printed."""

import re

import pytest

pytest.importorskip("slicer")
pytest.importorskip("PySide6")

from fake_ssh import FakeSsh
from module_panel import ROOT, engineWith

pytestmark = pytest.mark.slicer
PAGE = ROOT / "docs" / "module.md"


def test_the_calls_on_the_page_work_in_order(panel, chestCt, capsys, tmp_path, monkeypatch):
    FakeSsh(tmp_path, monkeypatch)
    panel.ui.livePreviewCheckBox.checked = False
    names = {"slicer": panel.slicer}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "4 slices; the time is known after the first result" in printed
    assert "chest_ct_cropped chest_ct_cropped findings" in printed
    assert "accepted\n1 of " in printed
    assert printed.count("left lung, slices 57 to 60\n") == 2
    assert "doctor@gpu: connected; engine " in printed
    assert "\ndoctor@gpu\n" in printed
    assert str(names["sizes"].folder) in printed


@pytest.fixture
def ownCache(panel, monkeypatch, tmp_path):
    """The folder of an engine with a cache of its own."""
    with engineWith(panel, monkeypatch, FASTTEXTDIFF_CACHE=str(tmp_path)):
        panel.waitFor(lambda: panel.widget.logic.session.isOpen)
        yield tmp_path
    panel.waitFor(lambda: panel.widget.logic.session.isOpen)


def test_set_up_shows_the_sizes_of_what_is_kept_and_removes_it(panel, ownCache):
    logic = panel.widget.logic
    logic.removeCaches()  # what the engine compiled when it started
    for name, size in (("abc-1/decode.bin", 1_500_000), ("compiled/decode.blob", 2_000_000)):
        (ownCache / "openvino" / name).parent.mkdir(parents=True)
        (ownCache / "openvino" / name).write_bytes(bytes(size))
    (ownCache / "mine.txt").write_text("stays")
    assert (logic.cacheSizes().converted, logic.cacheSizes().compiled) == (1_500_000, 2_000_000)
    panel.ui.setupCollapsibleButton.collapsed = True
    panel.ui.setupCollapsibleButton.collapsed = False
    panel.waitFor(lambda: "2.0 MB" in panel.ui.cacheLabel.text)
    assert "converted networks 1.5 MB" in panel.ui.cacheLabel.text
    panel.click("removeCacheButton")
    panel.waitFor(lambda: "converted networks 0.0 MB" in panel.ui.cacheLabel.text)
    assert not panel.ui.removeCacheButton.enabled
    assert [path.name for path in ownCache.iterdir()] == ["mine.txt"]

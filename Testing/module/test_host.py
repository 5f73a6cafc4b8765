"""The stand-in for Slicer behaves like Slicer where the module depends on it. Knows nothing about the module itself."""

import sys
import threading
import time

import pytest

MODULE = """
from typing import Annotated

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import *


class Echo(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Echo")


@parameterNodeWrapper
class EchoParameters:
    inputVolume: slicer.vtkMRMLScalarVolumeNode
    prompt: str = "x"
    history: list[str]
    samples: Annotated[int, WithinRange(1, 32)] = 1
    threshold: Annotated[float, WithinRange(0, 1)] = 0.5


class EchoWidget(ScriptedLoadableModuleWidget, slicer.util.VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        slicer.util.VTKObservationMixin.__init__(self)
        self.calls = []

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/Echo.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.parameters = EchoParameters(ScriptedLoadableModuleLogic().getParameterNode())
        # without a reference that outlives the panel, Slicer 5.10 crashes: disconnectGui leaves an observer
        slicer.modules.echoParameterNode = self.parameters.parameterNode
        self.tag = self.parameters.connectParametersToGui(
            {"inputVolume": self.ui.volumeSelector, "samples": self.ui.samples, "threshold": self.ui.threshold})
        self.addObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.update)
        self.ui.promptLine.connect("textEdited(QString)", self.onPrompt)
        self.ui.applyButton.connect("clicked(bool)", self.onApply)
        self.update()

    def update(self, caller=None, event=None):
        self.ui.applyButton.enabled = bool(self.parameters.inputVolume and self.parameters.prompt)

    def onPrompt(self, text):
        self.parameters.prompt = text

    def onApply(self):
        self.calls.append(self.parameters.prompt)

    def enter(self):
        self.calls.append("enter")

    def exit(self):
        self.calls.append("exit")

    def cleanup(self):
        self.calls.append("cleanup")
        self.parameters.disconnectGui(self.tag)
        self.removeObservers()
"""

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Echo</class>
<widget class="qMRMLWidget" name="Echo"><layout class="QVBoxLayout">
<item><widget class="qMRMLNodeComboBox" name="volumeSelector">
  <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
  <property name="noneEnabled"><bool>true</bool></property></widget></item>
<item><widget class="QLineEdit" name="promptLine"/></item>
<item><widget class="QSpinBox" name="samples"/></item>
<item><widget class="ctkSliderWidget" name="threshold"><property name="singleStep"><double>0.01</double></property>
</widget></item>
<item><widget class="QPushButton" name="applyButton"><property name="text"><string>Apply</string></property></widget>
</item></layout></widget>
<connections><connection><sender>Echo</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
<receiver>volumeSelector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>
"""


@pytest.fixture
def echo(host, scene, tmp_path):
    """The widget of a small scripted module."""
    (tmp_path / "Resources/UI").mkdir(parents=True)
    (tmp_path / "Resources/UI/Echo.ui").write_text(UI)
    (tmp_path / "Echo.py").write_text(MODULE)
    yield host.loadModule(tmp_path / "Echo.py")[1]
    if "Echo" in host.slicer.util.moduleNames():
        host.unloadModule("Echo")
    sys.path.remove(str(tmp_path))


@pytest.fixture
def volume(host, scene):
    """A volume of 8 x 9 x 10 voxels with a bright box."""
    import numpy as np

    array = np.zeros((8, 9, 10), np.int16)
    array[2:6, 3:6, 3:7] = 100
    node = host.slicer.util.addVolumeFromArray(array, name="box")
    node.CreateDefaultDisplayNodes()
    return node


def test_typing_and_clicking_drive_a_scripted_module(host, echo, volume):
    qt, ui = host.qt, echo.ui
    assert not ui.applyButton.enabled
    ui.volumeSelector.setCurrentNode(volume)
    qt.QTest.keyClicks(ui.promptLine, "lung")
    qt.QTest.keyClick(ui.samples, qt.Qt.Key_Up)
    ui.threshold.value = 0.25
    assert (echo.parameters.prompt, echo.parameters.samples, echo.parameters.threshold) == ("lung", 2, 0.25)
    assert echo.parameters.inputVolume is volume
    qt.QTest.mouseClick(ui.applyButton, qt.Qt.LeftButton)
    assert echo.calls == ["enter", "lung"]


def test_the_parameter_node_writes_widgets_and_refuses_unknown_values(host, echo):
    echo.parameters.samples = 5
    assert (echo.ui.samples.value, echo.ui.samples.maximum) == (5, 32)
    with pytest.raises(ValueError, match="within"):
        echo.parameters.threshold = 2.0
    with pytest.raises(TypeError):
        echo.parameters.prompt = 3
    with pytest.raises(RuntimeError, match="QLabel"):
        echo.parameters.connectParametersToGui({"prompt": host.qt.QLabel()})
    with pytest.raises(AttributeError):
        echo.parameters.history.append("lost in Slicer's stand-in")


def test_a_parameter_forgets_a_node_that_was_removed(host, echo, volume):
    echo.parameters.inputVolume = volume
    host.slicer.mrmlScene.RemoveNode(volume)
    assert echo.parameters.inputVolume is None
    assert echo.ui.volumeSelector.currentNode() is None


def test_a_saved_scene_keeps_the_parameters(host, echo, volume, tmp_path):
    slicer, file = host.slicer, str(tmp_path / "scene.mrb")
    echo.parameters.inputVolume = volume
    echo.parameters.prompt = "Lungenödem | links"
    echo.parameters.history = ["a", "b"]
    assert slicer.util.saveScene(file)
    host.closeScene()
    echo.parameters.prompt, echo.parameters.history = "other", []
    slicer.util.loadScene(file)
    assert echo.parameters.prompt == "Lungenödem | links"
    assert list(echo.parameters.history) == ["a", "b"]
    assert echo.parameters.inputVolume.GetName() == "box"


def test_modules_are_entered_left_reloaded_and_unloaded(host, echo):
    slicer = host.slicer
    slicer.util.selectModule("SegmentEditor")
    assert slicer.util.selectedModule() == "SegmentEditor"
    slicer.util.selectModule("Echo")
    assert echo.calls == ["enter", "exit", "enter"]
    _, again = host.reloadModule("Echo")
    assert echo.calls[-1] == "cleanup"
    assert again is not echo
    assert slicer.modules.EchoWidget is again
    host.unloadModule("Echo")
    assert again.calls == ["exit", "cleanup"]
    assert not hasattr(slicer.modules, "echo")
    with pytest.raises(RuntimeError):
        slicer.util.selectModule("Echo")


def test_a_cpp_object_refuses_unknown_attributes(host, scene):
    from slicerhost.qmrml import qMRMLNodeComboBox

    qt, ctk = host.qt, sys.modules["ctk"]
    for widget in (qt.QPushButton(), ctk.ctkSliderWidget(), qMRMLNodeComboBox()):
        with pytest.raises(AttributeError):
            widget.colour = "red"
        with pytest.raises(AttributeError):
            _ = widget.colour
        with pytest.raises(ValueError, match="no signal"):
            widget.connect("pushed()", print)
    for owner, name in ((qt, "Signal"), (ctk, "ctkRangeWidget"), (host.slicer.app, "pythonConsole")):
        assert not hasattr(owner, name)


def test_a_path_line_signals_every_letter_but_not_an_empty_text(host, scene):
    qt, edit, signals = host.qt, sys.modules["ctk"].ctkPathLineEdit(), []
    edit.connect("currentPathChanged(QString)", signals.append)
    line = host.slicer.util.findChildren(edit, className="QLineEdit")[0]
    qt.QTest.keyClicks(line, "/a")
    edit.currentPath = ""
    edit.currentPath = "/b"
    assert signals == ["/", "/a", "/b"]


def test_disconnected_widgets_are_released_but_the_node_stays_observed(echo):
    node, before = echo.parameters.parameterNode, echo.ui.samples.value
    echo.parameters.disconnectGui(echo.tag)
    assert node.HasObserver("ModifiedEvent")
    echo.parameters.samples = before + 3
    echo.ui.threshold.value = 0.125
    assert echo.ui.samples.value == before
    assert echo.parameters.threshold != 0.125
    echo.tag = echo.parameters.connectParametersToGui({"samples": echo.ui.samples})


def test_a_file_dialog_returns_only_the_name(host, scene):
    host.qt.QTimer.singleShot(50, lambda: host.qt.QApplication.activeModalWidget().reject())
    assert host.qt.QFileDialog.getSaveFileName(None, "Save", "a.txt", "Text (*.txt)") == ""


def test_a_collapsed_section_hides_its_children_and_restores_the_visible_ones(host, scene):
    qt, ctk = host.qt, sys.modules["ctk"]
    section, column = ctk.ctkCollapsibleButton(), qt.QVBoxLayout()
    section.setLayout(column)
    section.collapsed = True
    labels = [qt.QLabel("shown"), qt.QLabel("hidden")]
    for label in labels:
        column.addWidget(label)
    labels[1].visible = False
    section.show()
    host.slicer.app.processEvents()
    assert [label.visible for label in labels] == [False, False]
    section.click()
    assert [label.visible for label in labels] == [True, False]
    section.collapsed = True
    assert [label.visible for label in labels] == [False, False]


def test_slots_get_as_many_arguments_as_they_accept(host, scene):
    button, calls = host.qt.QPushButton(), []

    def none():
        calls.append("none")

    def one(checked):
        calls.append(checked)

    for slot in (none, one):
        button.connect("clicked(bool)", slot)
    button.click()
    assert calls == ["none", False]


def test_an_exception_in_a_slot_reaches_the_test(host, scene):
    button = host.qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in host.takeErrors()[0]


def test_the_event_loop_keeps_the_gil_so_that_threads_starve(host, scene):
    def steps(loop):
        count, stop = [0], threading.Event()

        def work():
            while not stop.is_set():
                count[0] += 1
                time.sleep(0)

        thread = threading.Thread(target=work)
        host.qt.QTimer.singleShot(500, host.slicer.app.quit)
        thread.start()
        loop()
        stop.set()
        thread.join()
        return count[0]

    released = steps(host.qt.QApplication.exec)  # PySide's own
    assert steps(host.slicer.app.exec_) * 3 < released


def test_a_question_is_asked_in_a_dialog_only_with_testing_off(host, scene):
    qt, asked = host.qt, []

    def ask(button):
        def answer():
            box = next(w for w in host.slicer.app.topLevelWidgets() if w.className() == "ctkMessageBox" and w.visible)
            asked.append(box.text)
            box.button(button).click()

        qt.QTimer.singleShot(50, answer)
        return host.call(lambda: host.slicer.util.confirmYesNoDisplay("Install?"))

    assert not host.slicer.util.confirmYesNoDisplay("Install?")  # the default answer of slicer.util
    host.setTestingEnabled(False)
    assert ask(qt.QMessageBox.Yes)
    assert not ask(qt.QMessageBox.No)
    assert asked == ["Install?", "Install?"]


def test_without_a_main_window_there_are_no_views(host, scene):
    with host.withoutWindow():
        assert host.slicer.util.mainWindow() is None
        assert host.slicer.app.layoutManager() is None
    assert host.slicer.util.mainWindow().name == "qSlicerMainWindow"


def test_the_subject_hierarchy_has_an_item_for_a_node_until_the_scene_is_closed(host, scene, volume):
    hierarchy = scene.GetSubjectHierarchyNode()
    assert hierarchy.GetItemName(hierarchy.GetItemByDataNode(volume)) == "box"
    host.closeScene()
    assert scene.GetSubjectHierarchyNode().GetNumberOfItems() == 0


def test_a_segmentation_is_saved_and_loaded_as_a_file(host, scene, volume, tmp_path):
    slicer = host.slicer
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "s")
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = node.GetSegmentation().AddEmptySegment("one", "one")
    mask = slicer.util.arrayFromVolume(volume) > 50
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype("uint8"), node, segment, volume)
    assert slicer.util.saveNode(node, str(tmp_path / "s.seg.nrrd"))
    loaded = slicer.util.loadSegmentation(str(tmp_path / "s.seg.nrrd"))
    assert (slicer.util.arrayFromSegmentBinaryLabelmap(loaded, "one", volume) == mask).all()


def test_a_screenshot_shows_the_panel_and_the_views_of_the_layout(host, echo, volume, tmp_path):
    slicer = host.slicer
    layout = slicer.vtkMRMLLayoutNode
    slicer.app.layoutManager().setLayout(layout.SlicerLayoutFourUpView)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    image = host.screenshot(tmp_path / "window.png", (1366, 768))
    assert (image.width(), image.height()) == (1366, 768)
    for name in ("Red", "Green", "Yellow"):
        picture = slicer.app.layoutManager().sliceWidget(name).picture.pixmap.toImage()
        center = picture.pixelColor(picture.width() // 2, picture.height() // 2)
        assert (center.red(), center.green(), center.blue()) == (255, 255, 255)
    assert echo.ui.applyButton.visible
    slicer.app.layoutManager().setLayout(layout.SlicerLayoutOneUpRedSliceView)
    host.screenshot(tmp_path / "one.png", (1366, 768))
    assert [n for n, v in slicer.app.layoutManager().views.items() if v.visible] == ["Red"]
    slicer.app.layoutManager().setLayout(layout.SlicerLayoutFourUpView)
    with pytest.raises(KeyError):
        slicer.app.layoutManager().setLayout(layout.SlicerLayoutFourUpTableView)


def test_the_segment_editor_stores_its_settings_in_its_node(host, scene, volume):
    slicer = host.slicer
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.GetSegmentation().AddEmptySegment("a", "a")
    segmentation.GetSegmentation().AddEmptySegment("b", "b")
    slicer.util.selectModule("SegmentEditor")
    editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
    editor.setSegmentationNode(segmentation)
    editor.setSourceVolumeNode(volume)
    editor.setCurrentSegmentID("b")
    node = scene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
    assert (node.GetSegmentationNode(), node.GetSourceVolumeNode()) == (segmentation, volume)
    assert node.GetSelectedSegmentID() == editor.currentSegmentID() == "b"

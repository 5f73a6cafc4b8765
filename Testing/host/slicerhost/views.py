"""The main window: a module's panel on the left, slice and 3D views on the right. Knows nothing about what is shown.

The views are rendered offscreen with slicer-core's displayable managers, when `refresh` is called. Other methods have
the names and behaviour of Slicer's.
"""

import functools

import qt
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .application import returning

_COLOURS = {"Red": "#f34a33", "1": "#8787cf", "Green": "#6eb04b", "Yellow": "#edd54c"}
_ORIENTATIONS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
_LAYOUTS = {
    slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView: tuple(_COLOURS),
    slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView: ("Red",),
}


class _View(qt.QFrame):
    """A coloured bar with the view's name above a picture of what its logic's node shows."""

    def __init__(self, name, logic):
        super().__init__()
        self.logic, bar, self.picture = logic, qt.QLabel(name), qt.QLabel()
        bar.styleSheet = f"background: {_COLOURS[name]}; padding-left: 4px"
        bar.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        self.picture.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Ignored)
        column = qt.QVBoxLayout(self)
        column.setContentsMargins(1, 1, 1, 1)
        column.setSpacing(0)
        column.addWidget(bar)
        column.addWidget(self.picture, 1)
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        logic.SetMRMLScene(slicer.mrmlScene)
        self.renderer, self._window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.AddRenderer(self.renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)

    def _display(self, node, factory, *managers):
        self.node = node
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.Initialize(factory, self.renderer)
        self._managers.SetMRMLDisplayableNode(node)

    def refresh(self):
        """Renders at the picture's size into the picture."""
        self._window.SetSize(self.picture.width, self.picture.height)
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        width, height, _ = grabber.GetOutput().GetDimensions()
        pixels = vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars()).reshape(height, width, 3)[::-1]
        image = qt.QImage(pixels.tobytes(), width, height, 3 * width, qt.QImage.Format_RGB888)
        self.picture.setPixmap(qt.QPixmap.fromImage(image))


class SliceWidget(_View):
    """A slice view, with the accessors of qMRMLSliceWidget."""

    def __init__(self, name):
        super().__init__(name, slicer.vtkMRMLSliceLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self.logic)
        node = self.logic.AddSliceNode(name)
        self.resetOrientation = functools.partial(node.SetOrientation, _ORIENTATIONS[name])
        self.resetOrientation()
        self.logic.ResizeSliceNode(400, 400)
        self.sliceLogic, self.mrmlSliceNode = returning(self.logic), returning(node)
        self._mapper, self._image = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self._image)  # before the segmentations' actors, or their fill blends with black
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._display(node, factory, "vtkMRMLSegmentationsDisplayableManager2D")

    def refresh(self):
        """Renders at the picture's size into the picture."""
        self.logic.ResizeSliceNode(self.picture.width, self.picture.height)
        self.logic.UpdatePipeline()
        pixels = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(pixels)
        self._image.SetVisibility(pixels is not None)
        super().refresh()


class ThreeDWidget(_View):
    """A 3D view, with the accessors of qMRMLThreeDWidget and qMRMLThreeDView."""

    def __init__(self):
        super().__init__("1", slicer.vtkMRMLViewLogic())
        managers = [f"vtkMRML{name}DisplayableManager" for name in ("Camera", "View")]
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        self._display(self.logic.AddViewNode("1"), factory, *managers, "vtkMRMLSegmentationsDisplayableManager3D")
        self.threeDView, self.resetFocalPoint = returning(self), self.renderer.ResetCamera


class LayoutManager:
    """The views, and which of them a layout shows."""

    def __init__(self):
        self.views = {name: SliceWidget(name) if name in _ORIENTATIONS else ThreeDWidget() for name in _COLOURS}
        self.sliceViewNames, self.sliceWidget = returning(tuple(_ORIENTATIONS)), self.views.get
        self.threeDWidget = [self.views["1"]].__getitem__
        self.mrmlSliceLogics = slicer.app.applicationLogic().GetSliceLogics
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def setLayout(self, layout):
        """Shows the views of a layout of vtkMRMLLayoutNode; raises KeyError for one that the host does not have."""
        for name, view in self.views.items():
            view.setVisible(name in _LAYOUTS[layout])
            view.node.SetMappedInLayout(name in _LAYOUTS[layout])

    def resetThreeDViews(self):
        """Points the 3D view's camera at the content."""
        self.views["1"].resetFocalPoint()


class MainWindow(qt.QMainWindow):
    """slicer.util.mainWindow() finds it by its name. It is its own module selector."""

    def __init__(self, layoutManager):
        super().__init__()
        self.objectName = "qSlicerMainWindow"
        self.selectedModule, self.moduleSelector = "", returning(self)
        self._area, center = qt.QScrollArea(), qt.QWidget()
        self._area.widgetResizable = True
        self._area.horizontalScrollBarPolicy = qt.Qt.ScrollBarAlwaysOff
        self._area.setFixedWidth(420)
        grid = qt.QGridLayout(center)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        grid.addWidget(self._area, 0, 0, 2, 1)
        for place, view in enumerate(layoutManager.views.values()):
            grid.addWidget(view, place // 2, 1 + place % 2)
        self.setCentralWidget(center)
        self.resize(1600, 1200)  # all of the panel can be clicked without scrolling

    def selectModule(self, name):
        """Leaves the current module and enters another; raises RuntimeError for an unknown name."""
        panel = slicer.util.getModule(name).widgetRepresentation()
        if self.selectedModule != name:
            self.leaveModule()
            self._area.setWidget(panel)
            panel.show()
            self.selectedModule = name
            getattr(panel.self(), "enter", lambda: None)()

    def leaveModule(self):
        """Leaves the current module, if there is one."""
        if self.selectedModule:
            getattr(self._area.widget().self(), "exit", lambda: None)()
            self._area.takeWidget()
            self.selectedModule = ""

"""Offscreen slice and 3D views over slicer-core's own displayable managers, and the layout manager that has them."""

import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

import qt

_ORIENTATIONS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}
_COLOURS = {"Red": "#f34a33", "Green": "#6eb04b", "Yellow": "#edd54c", "1": "#8787cf"}
_LAYOUTS = {
    slicer.vtkMRMLLayoutNode.SlicerLayoutConventionalView: ("Red", "1", "Green", "Yellow"),
    slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView: ("Red", "1", "Green", "Yellow"),
    slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView: ("1",),
    slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView: ("Red",),
    slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpYellowSliceView: ("Yellow",),
    slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpGreenSliceView: ("Green",),
}


class _View(qt.QFrame):
    """A coloured bar with the view's name over a picture that is rendered offscreen when asked for."""

    def __init__(self, name, text):
        super().__init__()
        self.bar, self.picture = qt.QLabel(text), qt.QLabel()
        self.bar.styleSheet = f"background: {_COLOURS[name]}; padding-left: 4px"
        self.bar.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        self.picture.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Ignored)
        column = qt.QVBoxLayout(self)
        column.setContentsMargins(1, 1, 1, 1)
        column.setSpacing(0)
        column.addWidget(self.bar)
        column.addWidget(self.picture, 1)

    def _prepare(self, factory, managers, image=None):
        self._renderer, self._window = vtk.vtkRenderer(), vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(400, 400)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        if image is not None:  # before the segmentations' actors, or their fill blends with black
            self._renderer.AddViewProp(image)
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for manager in managers:
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._managers = slicer.vtkMRMLDisplayableManagerGroup()
        self._managers.Initialize(factory, self._renderer)

    def forceRender(self):
        """Renders now."""
        self._window.Render()

    def pixels(self):
        """The rendered view, (rows, columns, 3) uint8."""
        self.forceRender()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        columns, rows, _ = grabber.GetOutput().GetDimensions()
        return (
            vtk_to_numpy(grabber.GetOutput().GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3].copy()
        )

    def refresh(self):
        """Renders at the picture's size into the picture."""
        self.resizeView(max(self.picture.width, 16), max(self.picture.height, 16))
        image = self.pixels()
        height, width = image.shape[:2]
        self.picture.setPixmap(
            qt.QPixmap.fromImage(qt.QImage(image.data, width, height, 3 * width, qt.QImage.Format_RGB888).copy())
        )


class SliceWidget(_View):
    """A slice view, with the accessors of qMRMLSliceWidget."""

    def __init__(self, name):
        super().__init__(name, f"{name[0]}  {_ORIENTATIONS[name]}")
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self._prepare(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), (
            "vtkMRMLCrosshairDisplayableManager", "vtkMRMLModelSliceDisplayableManager",
            "vtkMRMLSegmentationsDisplayableManager2D",
        ), self._image)  # fmt: skip
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        slicer.app.applicationLogic().GetSliceLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._logic.AddSliceNode(name)
        self._node.SetOrientation(_ORIENTATIONS[name])
        self._managers.SetMRMLDisplayableNode(self._node)
        self.resizeView(400, 400)

    def sliceLogic(self):
        """The vtkMRMLSliceLogic."""
        return self._logic

    def mrmlSliceNode(self):
        """The vtkMRMLSliceNode."""
        return self._node

    def sliceView(self):
        """What is rendered: here the widget itself."""
        return self

    def resizeView(self, width, height):
        """Gives the view another size in pixels."""
        if (width, height) != tuple(self._node.GetDimensions()[:2]):
            self._logic.ResizeSliceNode(width, height)
        self._window.SetSize(width, height)

    def forceRender(self):
        """Renders now."""
        self._logic.UpdatePipeline()
        if self._logic.GetImageDataConnection() is not None:
            self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        self._image.SetVisibility(self._logic.GetImageDataConnection() is not None)
        super().forceRender()


class ThreeDWidget(_View):
    """A 3D view, with the accessors of qMRMLThreeDWidget and qMRMLThreeDView."""

    def __init__(self):
        super().__init__("1", "1")
        self._prepare(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), (
            "vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager", "vtkMRMLModelDisplayableManager",
            "vtkMRMLSegmentationsDisplayableManager3D",
        ))  # fmt: skip
        self._logic = slicer.vtkMRMLViewLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._node = self._logic.AddViewNode("1")
        self._managers.SetMRMLDisplayableNode(self._node)

    def threeDView(self):
        """What is rendered: here the widget itself."""
        return self

    def mrmlViewNode(self):
        """The vtkMRMLViewNode."""
        return self._node

    def resizeView(self, width, height):
        """Gives the view another size in pixels."""
        self._window.SetSize(width, height)

    def resetFocalPoint(self):
        """Looks at all that is shown."""
        self._renderer.ResetCamera()

    resetCamera = resetFocalPoint


class LayoutManager(qt.QObject):
    """The views, and which of them a layout shows. Layouts that are not in the table above raise."""

    def __init__(self):
        super().__init__()
        self._node = slicer.vtkMRMLLayoutNode()
        self._node.SetSingletonTag("vtkMRMLLayoutNode")
        slicer.mrmlScene.AddNode(self._node)
        for layout in _LAYOUTS:
            self._node.AddLayoutDescription(layout, '<layout type="horizontal"/>')  # the table above is what counts
        self._slices = {name: SliceWidget(name) for name in _ORIENTATIONS}
        self._threeD = ThreeDWidget()
        self.views = {**self._slices, "1": self._threeD}
        self.threeDViewCount = 1
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def setLayout(self, layout):
        """Shows the views of a layout of vtkMRMLLayoutNode; raises KeyError for one that the host does not have."""
        for name, view in self.views.items():
            view.setVisible(name in _LAYOUTS[layout])
        self._node.SetViewArrangement(layout)

    @property
    def layout(self):
        """The layout's number."""
        return self._node.GetViewArrangement()

    def sliceViewNames(self):
        """Red, Green, Yellow."""
        return tuple(self._slices)

    def sliceWidget(self, name):
        """A slice view by name, None if there is none."""
        return self._slices.get(name)

    def threeDWidget(self, index):
        """The 3D view."""
        return self._threeD if index == 0 else None

    def mrmlSliceLogics(self):
        """The slice logics, a vtkCollection."""
        return slicer.app.applicationLogic().GetSliceLogics()

    def resetSliceViews(self):
        """Fits every slice view to its image."""
        for view in self._slices.values():
            view.sliceLogic().FitSliceToBackground()

    def resetThreeDViews(self):
        """Looks at all that the 3D view shows."""
        self._threeD.resetFocalPoint()

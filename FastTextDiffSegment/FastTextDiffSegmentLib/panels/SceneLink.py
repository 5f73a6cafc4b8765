"""Connects the panel with the scene's parameter node, and observes the image and the view chosen in it.

Knows nodes and their events, not what the sections make of them.
"""

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from FastTextDiffSegmentLib.Parameters import FastTextDiffSegmentParameters

from .PanelContext import PanelContext
from .ParameterBinding import ParameterBinding


class SceneLink(VTKObservationMixin):
    """One connection at a time.

    Args:
        context: gets the parameters while they are connected.
        onParameters: called when something in the parameter node has changed.
        onImage: called when the chosen image was modified.
        onView: called when the chosen slice view was modified.
    """

    def __init__(
        self,
        context: PanelContext,
        onParameters: Callable[[], None],
        onImage: Callable[[], None],
        onView: Callable[[], None],
    ):
        VTKObservationMixin.__init__(self)
        self._context, self._binding = context, ParameterBinding(context.ui)
        self._onParameters, self._onImage, self._onView = onParameters, onImage, onView
        self._observed: dict[str, Any] = {}

    def connect(self) -> None:
        """Connect to the parameters of the current scene, e.g. after a scene was closed or loaded."""
        self.disconnect()
        parameters = self._context.parameters = self._context.logic.getParameterNode()
        _chooseFirst(parameters)
        self._binding.connect(parameters)
        self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._onNode)
        self._onNode()

    def disconnect(self) -> None:
        """Disconnect from the parameters."""
        if self._context.parameters is not None:
            self._binding.disconnect()
            node = self._context.parameters.parameterNode
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._onNode)
            self._context.parameters = None

    def close(self) -> None:
        """Disconnect from the scene."""
        self.disconnect()
        self.removeObservers()

    def _onNode(self, caller: Any = None, event: Any = None) -> None:
        parameters = self._context.parameters
        self._follow("image", parameters.inputVolume, self._onImageNode)
        self._follow("view", parameters.sliceView, self._onViewNode)
        self._onParameters()

    def _follow(self, role: str, node: Any, callback: Callable[..., None]) -> None:
        """Observe a node in a role, and stop observing the previous one."""
        observed = self._observed.get(role)
        if observed is node:
            return
        if observed is not None:
            self.removeObserver(observed, vtk.vtkCommand.ModifiedEvent, callback)
        if node is not None:
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, callback)
        self._observed[role] = node

    def _onImageNode(self, caller: Any = None, event: Any = None) -> None:
        self._onImage()

    def _onViewNode(self, caller: Any = None, event: Any = None) -> None:
        self._onView()


def _chooseFirst(parameters: FastTextDiffSegmentParameters) -> None:
    """Set the defaults: the Red view and the volume shown in it."""
    if parameters.sliceView is None:
        parameters.sliceView = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceNode")
    if parameters.inputVolume is None:
        selection = slicer.mrmlScene.GetNodeByID(_activeVolumeId())
        if selection is not None and not selection.IsA("vtkMRMLLabelMapVolumeNode"):
            parameters.inputVolume = selection


def _activeVolumeId() -> str:
    selection = slicer.app.applicationLogic().GetSelectionNode()
    return (selection.GetActiveVolumeID() or "") if selection is not None else ""

"""The main window: module panel with a scroll area on the left, views on the right. Knows no particular module."""

import slicer

import qt


class ModuleSelector(qt.QObject):
    """Shows one module's panel at a time, and tells modules when they are entered and left."""

    def __init__(self, area):
        super().__init__()
        self._area, self.selectedModule = area, ""

    def selectModule(self, name):
        """Leaves the current module and enters another; raises RuntimeError if there is none of that name."""
        panel = slicer.util.getModule(name).widgetRepresentation()
        if self._area.widget() is not None and self._area.widget() is not panel:
            self.leave(self._area.widget())
        if self._area.widget() is None:
            self._area.setWidget(panel)
            panel.show()
            self.selectedModule = name
            panel.notify("enter")

    def leave(self, panel):
        """Leaves the module, if its panel is the one shown."""
        if self._area.widget() is panel:
            panel.notify("exit")
            self._area.takeWidget()
            self.selectedModule = ""


class MainWindow(qt.QMainWindow):
    """Found by slicer.util.mainWindow() by its name."""

    PANEL_WIDTH = 420

    def __init__(self, layoutManager):
        super().__init__()
        self.objectName = "qSlicerMainWindow"
        self.setWindowTitle("3D Slicer 5.12 stand-in")
        area = qt.QScrollArea()
        area.widgetResizable = True
        area.horizontalScrollBarPolicy = qt.Qt.ScrollBarAlwaysOff
        dock = qt.QDockWidget(self)
        dock.objectName = "PanelDockWidget"
        dock.setWidget(area)
        dock.setFixedWidth(self.PANEL_WIDTH)
        self.addDockWidget(qt.Qt.LeftDockWidgetArea, dock)
        self._selector = ModuleSelector(area)
        self.setCentralWidget(self._viewArea(layoutManager))
        self.statusBar()

    @staticmethod
    def _viewArea(layoutManager):
        area = qt.QWidget()
        grid = qt.QGridLayout(area)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        for place, name in enumerate(("Red", "1", "Green", "Yellow")):
            grid.addWidget(layoutManager.views[name], place // 2, place % 2)
        return area

    def moduleSelector(self):
        """The module selector."""
        return self._selector

"""`import ctk`: the CTK widgets that the module uses, reimplemented in PySide6. Knows nothing about MRML."""

import qt
from PySide6.QtCore import Property, Signal
from slicerhost.pythonqt import cppClass, forwarded, placeInRow


@cppClass
class ctkMessageBox(qt.QMessageBox):
    """The box for messages and questions of slicer.util."""


@cppClass
class ctkCollapsibleButton(qt.QAbstractButton):
    """A collapsible section, open while checked. Hidden children stay hidden when it opens."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._folded, self._headHeight = [], self.fontMetrics().height() + 10
        self.setContentsMargins(0, self._headHeight, 0, 0)
        self.setCheckable(True)
        self.setChecked(True)
        self.toggled.connect(self._fold)

    collapsed = Property(bool, lambda self: not self.isChecked(), lambda self, value: self.setChecked(not value))

    def _fold(self, opened):
        self.setMaximumHeight(16777215 if opened else self._headHeight)
        if not opened:
            self._folded += [c for c in self.children() if isinstance(c, qt.QWidget) and not c.isHidden()]
        for child in self._folded:
            child.setVisible(opened)

    def showEvent(self, event):
        """Hides the children of a section that was collapsed before it was shown."""
        self._fold(self.isChecked())

    def hitButton(self, position):
        """Only the header is a button."""
        return position.y() < self._headHeight

    def paintEvent(self, event):
        """The header as a push button with an arrow."""
        painter, option = qt.QStylePainter(self), qt.QStyleOptionButton()
        option.initFrom(self)
        option.rect = qt.QRect(0, 0, self.width, self._headHeight - 2)
        option.text = f"{'▸' if self.collapsed else '▾'} {self.text}"
        painter.drawControl(qt.QStyle.CE_PushButton, option)


@cppClass
class ctkSliderWidget(qt.QWidget):
    """A slider next to a spin box, which holds the value."""

    valueChanged = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider, self._spin = qt.QSlider(qt.Qt.Horizontal), qt.QDoubleSpinBox()
        placeInRow(self, self._slider, self._spin)
        self._slider.setRange(0, 1000)
        self._slider.sliderMoved.connect(self._onSlider)
        self._spin.valueChanged.connect(self._onValue)

    minimum = forwarded(float, "_spin", "minimum")
    maximum = forwarded(float, "_spin", "maximum")
    value = forwarded(float, "_spin", "value")
    singleStep = forwarded(float, "_spin", "singleStep")
    decimals = forwarded(int, "_spin", "decimals")

    def _onValue(self, value):
        if not self._slider.isSliderDown():
            self._slider.setValue(round(1000 * (value - self.minimum) / (self.maximum - self.minimum)))
        self.valueChanged.emit(value)

    def _onSlider(self, position):
        self.value = self.minimum + (self.maximum - self.minimum) * position / 1000


@cppClass
class ctkPathLineEdit(qt.QWidget):
    """A path input. Its button opens no dialog here: a test sets currentPath, as the dialog would.

    Like CTK's, it signals every letter, but only texts that its validator accepts, so not an empty one.
    """

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    Dirs, AllEntries = 1, 7

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters, self._isValid = self.AllEntries, False
        self._edit, button = qt.QLineEdit(), qt.QToolButton()
        self._edit.setValidator(qt.QRegularExpressionValidator(qt.QRegularExpression(".+"), self))
        button.text = "..."
        placeInRow(self, self._edit, button)
        self._edit.textChanged.connect(self._onText)

    currentPath = forwarded(str, "_edit", "text")

    def _onText(self, text):
        wasValid, self._isValid = self._isValid, self._edit.hasAcceptableInput()
        if self._isValid:
            self.currentPathChanged.emit(text)
        if self._isValid != wasValid:
            self.validInputChanged.emit(self._isValid)

    def setFilters(self, filters):
        """What the dialog would offer."""
        self._filters = filters

    filters = Property(int, lambda self: self._filters, setFilters)

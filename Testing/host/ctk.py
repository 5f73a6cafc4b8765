"""`import ctk`: the CTK widgets that the module uses, made again on PySide6. Knows nothing about MRML."""

from PySide6.QtCore import Property, Signal

import qt
from slicerhost.pythonqt import cppClass


@cppClass()
class ctkMessageBox(qt.QMessageBox):
    """What slicer.util shows its messages and questions in."""


@cppClass("contentsCollapsed(bool)")
class ctkCollapsibleButton(qt.QAbstractButton):
    """A section that folds. Children that were hidden when it folded stay hidden when it unfolds."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments):
        texts = [a for a in arguments if isinstance(a, str)]
        super().__init__(next((a for a in arguments if isinstance(a, qt.QWidget)), None))
        self._collapsed, self._shown = False, []
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self._headHeight(), 0, 0)
        self.toggled.connect(lambda on: self.setCollapsed(not on))
        self.setText(texts[0] if texts else "")

    def _headHeight(self):
        return self.fontMetrics().height() + 10

    def setCollapsed(self, collapsed):
        """Folds or unfolds."""
        if collapsed == self._collapsed:
            return
        self._collapsed = bool(collapsed)
        self.setChecked(not collapsed)
        if collapsed:
            self._shown = [c for c in self.children() if self._isShown(c)]
        for widget in self._shown:
            widget.setVisible(not collapsed)
        self.setMaximumHeight(self._headHeight() if collapsed else 16777215)
        self.contentsCollapsed.emit(self._collapsed)

    @staticmethod
    def _isShown(child):
        """Whether a child is a widget that nobody has hidden; one that was never shown yet counts as shown."""
        isWidget = isinstance(child, qt.QWidget)
        return isWidget and not (child.isHidden() and child.testAttribute(qt.Qt.WA_WState_ExplicitShowHide))

    def childEvent(self, event):
        """Children that come while it is folded, as from a .ui file, are folded too."""
        if self._collapsed and event.type() == qt.QEvent.ChildPolished and self._isShown(event.child()):
            self._shown.append(event.child())
            event.child().hide()

    collapsed = Property(bool, lambda self: self._collapsed, setCollapsed)

    def sizeHint(self):
        """The layout's, and at least the head."""
        hint = self.layout().totalSizeHint() if self.layout() and not self._collapsed else qt.QSize(80, 0)
        return qt.QSize(hint.width(), max(hint.height(), self._headHeight()))

    minimumSizeHint = sizeHint

    def hitButton(self, position):
        """Only the head is a button."""
        return position.y() < self._headHeight()

    def paintEvent(self, event):
        """The head as a push button with an arrow, and a frame around the content."""
        painter, option = qt.QStylePainter(self), qt.QStyleOptionButton()
        option.initFrom(self)
        height = self._headHeight() - 2
        option.rect = qt.QRect(0, 0, self.width, height)
        option.text = ("\u25b8 " if self._collapsed else "\u25be ") + self.text
        painter.drawControl(qt.QStyle.CE_PushButton, option)
        if not self._collapsed:
            painter.drawRect(qt.QRect(0, height, self.width - 1, self.height - height - 1))


@cppClass("valueChanged(double)", "valueIsChanging(double)")
class ctkSliderWidget(qt.QWidget):
    """A slider with a spin box; with tracking off, valueChanged waits until the slider is let go."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._tracking = True
        self._slider, self._spin = qt.QSlider(qt.Qt.Horizontal), qt.QDoubleSpinBox()
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider)
        row.addWidget(self._spin)
        self._slider.setRange(0, 1000)
        self._slider.sliderMoved.connect(self._onMoved)
        self._slider.sliderReleased.connect(lambda: self._spin.setValue(self._atSlider()))
        self._spin.valueChanged.connect(self._onValue)

    def _atSlider(self):
        low, high = self._spin.minimum, self._spin.maximum
        return low + (high - low) * self._slider.sliderPosition / 1000

    def _onMoved(self, _):
        self.valueIsChanging.emit(self._atSlider())
        if self._tracking:
            self._spin.setValue(self._atSlider())

    def _onValue(self, value):
        low, high = self._spin.minimum, self._spin.maximum
        if not self._slider.isSliderDown():
            self._slider.setValue(round(1000 * (value - low) / (high - low)) if high > low else 0)
        self.valueChanged.emit(value)

    def setValue(self, value):
        """Sets the value, brought into the range."""
        self._spin.setValue(value)

    def setTracking(self, tracking):
        """Whether valueChanged is emitted while the slider is dragged."""
        self._tracking = tracking

    value = Property(float, lambda self: self._spin.value, setValue)
    minimum = Property(float, lambda self: self._spin.minimum, lambda self, v: self._spin.setMinimum(v))
    maximum = Property(float, lambda self: self._spin.maximum, lambda self, v: self._spin.setMaximum(v))
    singleStep = Property(float, lambda self: self._spin.singleStep, lambda self, v: self._spin.setSingleStep(v))
    decimals = Property(int, lambda self: self._spin.decimals, lambda self, v: self._spin.setDecimals(v))
    suffix = Property(str, lambda self: self._spin.suffix, lambda self, v: self._spin.setSuffix(v))
    tracking = Property(bool, lambda self: self._tracking, setTracking)


@cppClass("currentPathChanged(QString)")
class ctkPathLineEdit(qt.QWidget):
    """A line for a path. Its button opens no dialog here: a test sets currentPath, as the dialog would."""

    Files, Dirs = 2, 1
    currentPathChanged = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters = self.Files
        self._edit, button = qt.QLineEdit(), qt.QToolButton()
        button.text = "..."
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._edit)
        row.addWidget(button)
        self._edit.textChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path):
        """Sets the path; emits currentPathChanged if it is another."""
        self._edit.setText(path)

    def setFilters(self, filters):
        """What may be chosen: ctkPathLineEdit.Dirs or .Files."""
        self._filters = filters

    currentPath = Property(str, lambda self: self._edit.text, setCurrentPath)
    filters = Property(int, lambda self: self._filters, setFilters)

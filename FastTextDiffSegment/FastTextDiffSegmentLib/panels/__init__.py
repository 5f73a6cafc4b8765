"""What the user sees and presses. Knows Qt; leaves the scene to `scene` and the model to `engine`.

The last word of a name says what a class is:

* Panel: the module's whole user interface. `PanelContext` and `PanelRequests` serve all of it.
* Section: one part of the panel. It owns its widgets, connects them and keeps them up to date.
* Control: carries out what sections start (a run, writing, saving). It owns no part of the panel.
* Box, Edit, Form, Line, Slider, Table: one widget, or a few that work as one, inside a section.
* Link, Binding: connects the panel with something else, such as the scene.
* Layer, Preview: what is shown in the slice views.
"""

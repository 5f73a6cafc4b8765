"""Asks the user for what is needed before images are given to the engine. Does not know what needs it.

Two things: the licence of the weights, once per model, and sending images to another computer, by host.
"""

from slicer.i18n import tr as _

from .PanelContext import PanelContext
from .SetupSection import SetupSection


def hasConsent(context: PanelContext, setup: SetupSection) -> bool:
    """Whether the user accepts the licence, and where images go; asks if needed, and says what to do after a No."""
    return _acceptsLicence(context, setup) and maySend(context, setup)


def maySend(context: PanelContext, setup: SetupSection) -> bool:
    """Whether images may be given to the computer that segments; asks if needed, and says what to do after a No."""
    if context.logic.session.place.isAllowed:
        return True
    question = _(
        "Segmenting on {host} sends images from this computer to {host}.\n\n"
        "Sent: the voxels of the images that you segment or measure, their position and kind, the findings that you "
        "type, your strokes, and the masks and names of measured segments.\n\n"
        "Not sent: DICOM headers, patient names, file names, and the findings learned on this computer.\n\n"
        "Do you allow this until Slicer is closed?"
    ).format(host=setup.host)
    box = _("Remember this for {host}, until withdrawn in Set-up").format(host=setup.host)
    isAllowed, isRemembered = context.dialogs.confirmAndRemember(question, box, _("Send images to another computer"))
    if isAllowed:
        setup.allow(isRemembered)
    else:
        text = _(
            "Nothing was sent to {host}, and nothing was changed. To segment on this computer, choose it in Set-up."
        )
        context.message.show(text.format(host=setup.host))
    return isAllowed


def _acceptsLicence(context: PanelContext, setup: SetupSection) -> bool:
    if not setup.isLicenceAccepted:
        question = _(
            "The weights of the model {name} may be used under the licence {licence}. They are for research, "
            "not for diagnosis.\n\nDo you accept this?"
        )
        if context.ask(question.format(name=setup.model.name, licence=setup.model.licence)):
            setup.acceptLicence()
        else:
            context.message.show(_("Accept the licence of the weights first: open Set-up above."))
    return setup.isLicenceAccepted

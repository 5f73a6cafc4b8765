"""Asks the user to accept the licence of the weights, once per model. Does not know what needs it."""

from slicer.i18n import tr as _

from .PanelContext import PanelContext
from .SetupSection import SetupSection


def hasConsent(context: PanelContext, setup: SetupSection) -> bool:
    """Whether the user accepts the licence of the weights; asks if needed, and says what to do after a No."""
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

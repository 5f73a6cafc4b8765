"""Asks for consent to the licence of the weights, once for each model. Knows nothing about what it is needed for."""

from slicer.i18n import tr as _

from .PanelContext import PanelContext
from .SetupSection import SetupSection


def hasConsent(context: PanelContext, setup: SetupSection) -> bool:
    """Whether the user accepts the licence of the weights; asks unless they did, and says what to do after a No."""
    if not setup.isLicenceAccepted:
        question = _(
            "The weights of the model {name} may be used under the licence {licence}. They are for research, "
            "not for diagnosis.\n\nDo you accept this?"
        )
        if context.ask(question.format(name=setup.model.name, licence=setup.model.licence)):
            setup.acceptLicence()
        else:
            context.message.tell(_("The licence of the weights has to be accepted first: open Set-up above."))
    return setup.isLicenceAccepted

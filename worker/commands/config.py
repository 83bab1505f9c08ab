"""``penstock config``: the current settings, an example file, or tables of all keys."""

from penstock.worker.settings.keys import Settings
from penstock.worker.settings.text import effective, example, markdown


def show(form: str, settings: Settings) -> str:
    """The settings as ``effective``, ``example`` or ``markdown``."""
    if form == "effective":
        return effective(settings)
    return {"example": example, "markdown": markdown}[form]()

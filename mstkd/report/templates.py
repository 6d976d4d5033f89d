"""Pages of HTML, from the templates beside this file: one file each, nothing asked of a server."""

from __future__ import annotations

import jinja2

from mstkd import __version__


def page_html(template: str, *, room: str = "mstkd.report", **values: object) -> str:
    """The page; of the values all is escaped that is not `Markup`.

    Args:
        template: a file of the room, which may extend one of this room's.
        room: a package.
        values: what the template names.
    """
    rooms = dict.fromkeys((room, "mstkd.report"))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(one, "") for one in rooms]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **values) + "\n"

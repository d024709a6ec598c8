"""An audit as one HTML page, which needs nothing but itself."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from genrecls import __version__
from genrecls.audit.findings import Audit


def verdict(found: Audit) -> str:
    """What the audit says of the split, in a sentence."""
    if found.roles is None:
        return f"The split {found.split!r} cannot be made: {found.unsplit}"
    if not found.leaks:
        return f"The split {found.split!r} leaks nothing that can be seen: no recording or known artist in two parts."
    recordings, groups = len(found.copies_across_splits), len(found.groups_across_splits)
    return (
        f"The split {found.split!r} LEAKS: in more than one part are {recordings} "
        f"recording{'s' if recordings != 1 else ''} and {groups} artist{'s' if groups != 1 else ''} or group"
        f"{'s' if groups != 1 else ''}."
    )


def page(found: Audit) -> str:
    """The page; every name from outside is escaped."""
    environment = Environment(
        loader=PackageLoader("genrecls.audit", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        found=found, value=found.values(), verdict=verdict(found), version=__version__
    )

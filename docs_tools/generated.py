"""Pages of the site that are made from the code, by their place in the site."""

from collections.abc import Callable
from functools import partial

from docs_tools.errors import areas
from docs_tools.errors import pages as errors
from docs_tools.reference import api, assets, automations, commands, configuration, environment, tables

PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands.page,
    "reference/configuration.md": configuration.page,
    "reference/assets.md": assets.page,
    "reference/automations.md": automations.page,
    "reference/tables.md": tables.page,
    "reference/environment.md": environment.page,
    "reference/api.md": api.page,
    "reference/errors/index.md": errors.index_page,
    **{f"reference/errors/{area}.md": partial(errors.area_page, area) for area in areas.AREAS},
}
# Other files of the site.
FILES: dict[str, Callable[[], str]] = {"reference/errors/messages.js": errors.messages_script}

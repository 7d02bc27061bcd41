"""Commands on data sources."""

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.settings import Settings


@command("list_sources", "luna list_sources", "luna list_sources --all")
@click.option("--all", "is_all", is_flag=True, help="Show layout, size and known faults of every source.")
def list_sources_command(*, is_all: bool) -> None:
    """List the data sources with licence and citation.

    Those that lie in LUNA_DATA_DIR are marked as in use.
    """
    from luna_pipeline.core.sources.registry import DATA_SOURCES
    from luna_pipeline.launchers.data_sources import sources_of

    settings = Settings.from_environment()
    found = {it.name: it.root for it in sources_of(settings)}
    for name in DATA_SOURCES.names():
        card = DATA_SOURCES.get(name).card
        place = f" [in use: {found[name]}]" if name in found else ""
        click.echo(f"{name}: {card.title}{place}")
        click.echo(f"  licence: {card.licence}")
        click.echo(f"  cite: {card.citation}")
        if is_all or name in found:
            click.echo(f"  address: {card.address}")
            click.echo(f"  size: {card.size}")
            click.echo(f"  layout: {card.layout}")
            for trap in card.traps:
                click.echo(f"  caution: {trap}")

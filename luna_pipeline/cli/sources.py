"""Commands on data sources."""

from dataclasses import asdict

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.settings import Settings


@command("list_sources", "luna list_sources", "luna list_sources --all", "luna list_sources --json")
@click.option("--all", "is_all", is_flag=True, help="Show layout, size and known faults of every source.")
@json_option
def list_sources_command(*, is_all: bool, is_json: bool) -> None:
    """List the data sources with licence and citation.

    Those that lie in LUNA_DATA_DIR are marked as in use.
    """
    from luna_pipeline.core.sources.registry import DATA_SOURCES
    from luna_pipeline.launchers.data_sources import sources_of

    settings = Settings.from_environment()
    found = {it.name: str(it.root) for it in sources_of(settings)}
    if is_json:
        cards = {name: DATA_SOURCES.get(name).card for name in DATA_SOURCES.names()}
        print_json([{"name": name, "root": found.get(name), **asdict(card)} for name, card in cards.items()])
        return
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

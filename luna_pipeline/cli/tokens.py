"""Commands for the service's bearer tokens."""

import time

import click

from luna_pipeline.cli.grouped import Group
from luna_pipeline.cli.results import json_option, print_json
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.security.tokens import Tokens
from luna_pipeline.settings import Settings


@click.group("token", cls=Group)
def token_command() -> None:
    """Add, list and revoke bearer tokens of `luna serve`.

    They are required beyond this machine, and on it once one was added.
    """


@token_command.command("add", examples=["luna token add radiology"])
@click.argument("name")
def add_command(name: str) -> None:
    """Create the token NAME and print its secret once.

    Only its digest is kept. NAME is that of the system or place that uses it. A running service accepts it at once.
    """
    click.echo(_tokens().add(name))
    click.echo(f"Token {name} was added. Keep the secret: it cannot be shown again.", err=True)


@token_command.command("list", examples=["luna token list"])
@json_option
def list_command(*, is_json: bool) -> None:
    """Print name and day of creation (UTC) of each token."""
    days = {token.name: time.strftime("%Y-%m-%d", time.gmtime(token.created_at)) for token in _tokens().list()}
    if is_json:
        print_json([{"name": name, "created_on": day} for name, day in days.items()])
        return
    for name, day in days.items():
        click.echo(f"{name}  {day}")


@token_command.command("revoke", examples=["luna token revoke radiology"])
@click.argument("name")
def revoke_command(name: str) -> None:
    """Remove the token NAME.

    A running service refuses it from the next request on.
    """
    _tokens().revoke(name)
    click.echo(f"Token {name} was revoked.")


def _tokens() -> Tokens:
    return Tokens(ServiceFolders(Settings.from_environment().service_dir).tokens)

"""The command that receives CTs by DICOM."""

from pathlib import Path

import click

from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import usage_errors


@command("receive", "luna receive", "luna receive --aet LUNA --host 0.0.0.0 --port 11112 --config config/serving.yaml")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration of the service as YAML; config/serving.yaml shows all keys. Default: built-in values.",
)
@click.option("--aet", metavar="TITLE", help="Own application entity title. Default: receiver.aet, LUNA.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=11112, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
def receive_command(*, config_path: Path | None, aet: str | None, host: str, port: int) -> None:
    """Receive CT series by DICOM (C-STORE) for `luna serve`.

    Each complete series becomes a job of the service. The configuration sets the titles that may connect, TLS, limits,
    and the systems that get the results. `luna serve` makes the diagnoses and sends the results. Research use only.
    """
    from dataclasses import replace

    from luna_pipeline.serving.config import read_config

    with usage_errors("--config"):
        config = read_config(config_path)
    if aet is not None:
        config = replace(config, receiver=replace(config.receiver, aet=aet))
    from luna_pipeline.serving.dicom.run import run_receiver
    from luna_pipeline.serving.folders import ServiceFolders
    from luna_pipeline.serving.quiet_logs import set_up_logs
    from luna_pipeline.settings import Settings

    # After the imports: packages set up handlers of their own.
    set_up_logs()
    run_receiver(ServiceFolders(Settings.from_environment().service_dir), config, host=host, port=port)

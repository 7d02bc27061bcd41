"""The command that serves diagnoses by HTTP."""

from dataclasses import replace
from pathlib import Path

import click

from luna_pipeline.cli.completion import checkpoints
from luna_pipeline.cli.grouped import command
from luna_pipeline.cli.options import usage_errors


@command("serve", "luna serve", "luna serve --config config/serving.yaml --port 8001")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration of the service as YAML; config/serving.yaml shows all keys. Default: built-in values.",
)
@click.option(
    "--model",
    metavar="ADDRESS",
    shell_complete=checkpoints,
    help="The nodule classifier, as for luna diagnose. Default: the champion.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Others than this machine's need a token: luna token add.",
)
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--on-ray", "is_on_ray", is_flag=True, help="Serve on Ray Serve, of this machine or of RAY_ADDRESS.")
def serve_command(*, config_path: Path | None, model: str | None, host: str, port: int, is_on_ray: bool) -> None:
    """Diagnose CTs that arrive by HTTP, by the page or by `luna receive`.

    Accepted CTs are kept below LUNA_SERVICE_DIR until they are diagnosed, also if the service is killed. Research use
    only.
    """
    from luna_pipeline.extensions import load_extensions
    from luna_pipeline.serving.config import read_config

    with usage_errors("--config"):
        config = read_config(config_path)
    if model is not None:
        config = replace(config, classifier=model)
    load_extensions()
    from luna_pipeline.serving.loaded_models import check_models
    from luna_pipeline.settings import Settings

    settings = Settings.from_environment()
    check_models(settings, config)
    if is_on_ray:
        from luna_pipeline.serving.on_ray import serve_on_ray

        serve_on_ray(config, host=host, port=port)
        return
    from luna_pipeline.serving.http.run import run_service

    run_service(settings, config, host=host, port=port)

"""A process that diagnoses: ``python -m luna_pipeline.serving.worker``, started by ``serving.supervisor``."""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from luna_pipeline.serving.config import ServiceConfig, config_of, read_config
from luna_pipeline.serving.folders import ServiceFolders

if TYPE_CHECKING:
    from dbos import DBOSClient

    from luna_pipeline.serving.diagnosing import WorkerContext

_log = logging.getLogger(__name__)


def run_worker(folders: ServiceFolders, config: ServiceConfig, stop: threading.Event) -> NoReturn:
    """Diagnose jobs until ``stop`` is set; then put the running one back into the queue, and end the process.

    Raises:
        JobsUnavailableError: If the jobs' database does not answer at first.
    """
    from dbos import DBOS

    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.extensions import load_extensions
    from luna_pipeline.serving.database import dbos_config, new_client
    from luna_pipeline.serving.diagnosing import WorkerContext
    from luna_pipeline.serving.executors import held_name
    from luna_pipeline.serving.jobs import Jobs
    from luna_pipeline.serving.loaded_models import LoadedModels
    from luna_pipeline.serving.quiet_logs import set_up_logs
    from luna_pipeline.serving.upkeep import Upkeep
    from luna_pipeline.serving.workflows import register_queues, register_workflows
    from luna_pipeline.settings import Settings

    load_extensions()
    keep_freed_memory()
    settings, jobs = Settings.from_environment(), Jobs(folders, config)
    models = LoadedModels(settings, config)
    context = WorkerContext(settings=settings, config=config, folders=folders, models=models)
    with held_name(folders) as name:
        try:
            DBOS(config=dbos_config(folders, config, executor=name))
            # DBOS has its own handler.
            set_up_logs()
            register_workflows(context)
            DBOS.launch()
            register_queues()
            _log.info("%s is ready.", name)
            client = new_client(folders, config)
            Upkeep(context, name, jobs, client).run(stop)
            _hand_back(context, name, client)
            _log.info("%s ends.", name)
            _end(0)
        except Exception:
            _log.exception("A worker ended.")
            _end(1)


def _hand_back(context: "WorkerContext", name: str, client: "DBOSClient") -> None:
    """Put the running workflows back into their queues; the attempt does not count."""
    from sqlalchemy.exc import SQLAlchemyError

    from luna_pipeline.serving.executors import requeue, running_of
    from luna_pipeline.serving.job_files import job_of_workflow, take_back_attempt

    # Otherwise other workers do it, within a quarter of a minute.
    with contextlib.suppress(SQLAlchemyError, OSError):
        running = running_of(client, name)
        for workflow_id in running.keys() & context.diagnosing:
            take_back_attempt(context.folders.job(job_of_workflow(workflow_id)))
        requeue(client, running)


def _end(code: int) -> NoReturn:
    """End the process without its other threads: a diagnosis takes minutes, and its files are written atomically."""
    logging.shutdown()
    os._exit(code)


def _stop_with_parent(stop: threading.Event) -> None:
    """Set ``stop`` when standard input is closed: the process that started this one has ended."""
    # A thread in a method of sys.stdin would abort the process at its end.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def main(arguments: list[str] | None = None) -> None:
    """Run a worker; SIGTERM and SIGINT end it."""
    parser = argparse.ArgumentParser(prog="python -m luna_pipeline.serving.worker")
    parser.add_argument("--config", type=Path, help="YAML file of the service's configuration.")
    parser.add_argument(
        "--supervised",
        action="store_true",
        help="Read the configuration as a line of JSON from standard input, and end when it is closed.",
    )
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    config = config_of(json.loads(sys.stdin.buffer.readline())) if options.supervised else read_config(options.config)
    if options.supervised:
        threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    from luna_pipeline.serving.job import JobsUnavailableError
    from luna_pipeline.settings import Settings

    try:
        run_worker(ServiceFolders(Settings.from_environment().service_dir), config, stop)
    except JobsUnavailableError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

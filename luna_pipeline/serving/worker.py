"""A process that diagnoses: ``python -m luna_pipeline.serving.worker``, started by ``luna serve``."""

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from luna_pipeline.serving.config import ServiceConfig, read_config
from luna_pipeline.serving.folders import ServiceFolders

_UPKEEP_SECONDS = 15.0
_log = logging.getLogger(__name__)


def run_worker(folders: ServiceFolders, config: ServiceConfig, stop: threading.Event) -> None:
    """Diagnose jobs until ``stop`` is set; then the running one goes back into the queue, and the process ends."""
    from dbos import DBOS

    from luna_pipeline.core.malloc import keep_freed_memory
    from luna_pipeline.extensions import load_extensions
    from luna_pipeline.serving.database import dbos_config, make_tables, new_client
    from luna_pipeline.serving.diagnosing import WorkerContext
    from luna_pipeline.serving.executors import held_name, requeue
    from luna_pipeline.serving.workflows import register_queues, register_workflows
    from luna_pipeline.settings import Settings

    load_extensions()
    keep_freed_memory()
    make_tables(folders, config)
    with held_name(folders) as name:
        DBOS(config=dbos_config(folders, config, executor=name))
        register_workflows(WorkerContext(settings=Settings.from_environment(), config=config, folders=folders))
        DBOS.launch()
        register_queues()
        _log.info("%s diagnoses.", name)
        _upkeep(folders, config, stop)
        requeue(new_client(folders, config), name)
        # A diagnosis that is still running would keep the process; its files are written atomically.
        logging.shutdown()
        os._exit(0)


def _upkeep(folders: ServiceFolders, config: ServiceConfig, stop: threading.Event) -> None:
    """Take over what other processes have lost, until ``stop`` is set."""
    from luna_pipeline.serving.database import new_client
    from luna_pipeline.serving.executors import requeue_lost
    from luna_pipeline.serving.jobs import Jobs

    jobs, client = Jobs(folders, config), new_client(folders, config)
    while True:
        jobs.reconcile()
        requeue_lost(client, folders)
        if stop.wait(_UPKEEP_SECONDS):
            return


def main(arguments: list[str] | None = None) -> None:
    """Run a worker; SIGTERM and SIGINT end it."""
    parser = argparse.ArgumentParser(prog="python -m luna_pipeline.serving.worker")
    parser.add_argument("--config", type=Path, help="YAML file of the service's configuration.")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    from luna_pipeline.settings import Settings

    run_worker(ServiceFolders(Settings.from_environment().service_dir), read_config(options.config), stop)


if __name__ == "__main__":
    main(sys.argv[1:])

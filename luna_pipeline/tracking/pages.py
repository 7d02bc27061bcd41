"""Addresses of pages in a browser: MLflow's experiments, runs and models, and TensorBoard's curves."""

import re
from urllib.parse import quote


def mlflow_page(ui_url: str, *places: str) -> str:
    """Return the address of a page of MLflow.

    MLflow 3 opens its pages for language models, which show no training, unless the address says otherwise.

    Args:
        ui_url: MLflow's address, such as ``http://127.0.0.1:8080``.
        places: Where the page is: ``"experiments", "1", "runs"``, with a run's id for the run; or ``"models",
            "nodule_classifier", "versions", "3"``.
    """
    return f"{ui_url}/#/{'/'.join(quote(place, safe='') for place in places)}?workflowType=machine_learning"


def tensorboard_page(ui_url: str, version: str) -> str:
    """Return the address of TensorBoard's curves, of the runs of one version of a model."""
    return f"{ui_url}/?runFilter={quote(re.escape(version), safe='')}#timeseries"

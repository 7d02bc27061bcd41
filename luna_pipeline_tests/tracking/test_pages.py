"""Addresses of pages."""

from luna_pipeline.tracking.pages import mlflow_page, tensorboard_page


def test_every_page_of_mlflow_is_asked_for_as_one_of_training():
    assert mlflow_page("http://a:8080", "models", "a b", "versions", "3") == (
        "http://a:8080/#/models/a%20b/versions/3?workflowType=machine_learning"
    )


def test_tensorboard_shows_the_runs_of_one_version():
    assert (
        tensorboard_page("http://a:6006", "0.0.1-fold0") == "http://a:6006/?runFilter=0%5C.0%5C.1%5C-fold0#timeseries"
    )

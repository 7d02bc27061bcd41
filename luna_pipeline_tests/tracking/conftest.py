"""Each test has an MLflow of its own."""

from luna_pipeline_tests.mlflow_fixtures import empty_database, quiet_mlflow, tracking_uri

__all__ = ["empty_database", "quiet_mlflow", "tracking_uri"]

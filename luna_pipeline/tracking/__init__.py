"""Message handlers: console, MLflow, TensorBoard."""

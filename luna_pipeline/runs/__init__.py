"""How Dagster runs are launched, leased, nested and interrupted."""

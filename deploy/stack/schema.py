"""Create Dagster's tables if they are missing, and check that they have this image's version; else exit code 1.

So no service starts on tables of another version, on which only a part of Dagster would work.
"""

import sys

import dagster as dg


def main() -> int:
    """Open the storages of DAGSTER_HOME's configuration, which creates missing tables, and check one of them."""
    with dg.DagsterInstance.get() as instance:
        # On PostgreSQL all three share one database and one revision.
        storages = [instance.run_storage, instance.schedule_storage, instance.event_log_storage]
        found, wanted = {storage.alembic_version() for storage in storages if storage}.pop() or (None, None)
    if found == wanted:
        return 0
    print(f"Dagster's tables must be of revision {wanted}, got {found} (its database). Run `make upgrade`.")
    return 1


if __name__ == "__main__":
    sys.exit(main())

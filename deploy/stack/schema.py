"""Make Dagster's tables where there are none; are they this image's? If not: one line and exit code 1.

Nothing starts on tables of another version then: some of Dagster would work on them, and some would not.
"""

import sys

import dagster as dg


def main() -> int:
    """Open the storages that DAGSTER_HOME's configuration names, which makes missing tables, and ask one of them."""
    with dg.DagsterInstance.get() as instance:
        # Of PostgreSQL all three share one database, and so one revision.
        storages = [instance.run_storage, instance.schedule_storage, instance.event_log_storage]
        found, wanted = {storage.alembic_version() for storage in storages if storage}.pop() or (None, None)
    if found == wanted:
        return 0
    print(f"Dagster's tables must be of revision {wanted}, got {found} (its database). Run `make upgrade`.")
    return 1


if __name__ == "__main__":
    sys.exit(main())

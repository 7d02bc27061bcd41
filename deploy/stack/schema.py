"""Create Dagster's tables if they are missing, check their version, and set limits of pools: `schema.py POOL=LIMIT …`.

The exit code is 1 if the tables have another version than this image: no service starts on them, because only a part
of Dagster would work.
"""

import sys

import dagster as dg


def main(*pools: str) -> int:
    """Open the storages of DAGSTER_HOME, which creates missing tables; check their version, and set the limits."""
    with dg.DagsterInstance.get() as instance:
        # On PostgreSQL all three share one database and one revision.
        storages = [instance.run_storage, instance.schedule_storage, instance.event_log_storage]
        found, wanted = {storage.alembic_version() for storage in storages if storage}.pop() or (None, None)
        if found == wanted:
            for name, limit in (pool.split("=") for pool in pools):
                instance.event_log_storage.set_concurrency_slots(name, int(limit))
            return 0
    print(f"Dagster's tables must be of revision {wanted}, got {found} (its database). Run `make upgrade`.")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

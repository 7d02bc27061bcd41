"""Dynamic partitions that refuse unknown keys and empty ranges in words that say what to do."""

import os
from collections.abc import Sequence
from typing import Any

import dagster as dg

NUM_SHOWN = 3
_REGISTERED_BY = {"incoming_series": "diagnose"}
"""Job that registers the keys of a partitions definition; the others are registered by `ingest`."""


class RegisteredPartitions(dg.DynamicPartitionsDefinition):
    """Dynamic partitions that an asset registers.

    Dagster asks these methods before it creates a run of ``--partition`` or of a range, and when an asset reads the
    keys of its run. Dagster's own range from a later to an earlier key is empty, and a run of it does nothing.
    """

    def validate_partition_key(self, partition_key: str, context: Any) -> None:
        """Check that a key is registered.

        Raises:
            dg.DagsterUnknownPartitionError: If it is not.
        """
        known = self.get_partition_keys(dynamic_partitions_store=context.dynamic_partitions_store)
        if partition_key not in known:
            raise dg.DagsterUnknownPartitionError(unknown_key(str(self.name), partition_key, known))

    def get_partition_keys_in_range(self, partition_key_range: dg.PartitionKeyRange) -> Sequence[str]:
        """Return the keys of a range, in the order of their registration.

        Raises:
            dg.DagsterInvalidInvocationError: If an end is not registered, or the range ends before it starts.
        """
        known, (start, end) = list(self.get_partition_keys()), partition_key_range
        for key in (start, end):
            if key not in known:
                raise dg.DagsterInvalidInvocationError(unknown_key(str(self.name), key, known))
        keys = known[known.index(start) : known.index(end) + 1]
        if not keys:
            msg = f"A range of partitions must end at or after its start, got {start!r} to {end!r} ({self.name})."
            raise dg.DagsterInvalidInvocationError(f"{msg} Exchange the two; the order is that of registration.")
        return keys


def unknown_key(name: str, key: str, known: Sequence[str]) -> str:
    """Return the message about a key that is not registered."""
    job = _REGISTERED_BY.get(name, "ingest")
    rule = f"A partition must be registered, got {key!r} ({name})."
    if known:
        shown = ", ".join(known[:NUM_SHOWN]) + (f" and {len(known) - NUM_SHOWN} more" if len(known) > NUM_SHOWN else "")
        return f"{rule} Choose one of {shown}, or register it with the job `{job}`."
    if not os.environ.get("DAGSTER_HOME"):
        return f"{rule} Nothing is remembered without DAGSTER_HOME: set it to the folder of Dagster's run history."
    return f"{rule} None is registered in DAGSTER_HOME: run the job `{job}` first."

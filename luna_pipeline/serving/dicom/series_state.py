"""What has arrived of one series, and when it is whole."""

from dataclasses import dataclass, field
from typing import Protocol

from luna_pipeline.serving.config import ReceiverConfig

COUNTED_QUIET_SECONDS = 2.0
"""Quiet time of a series with the number of instances that its headers state."""
HELD_SECONDS = 3600.0
"""Time for which a series with refused instances waits for them; then it is removed."""


class Sender(Protocol):
    """The association of an instance."""

    @property
    def is_established(self) -> bool:
        """Whether it may send further instances."""

    @property
    def is_released(self) -> bool:
        """Whether it has ended as agreed, neither aborted nor lost."""


@dataclass
class SeriesState:
    """What has arrived of a series, and what was refused of it."""

    names: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    senders: set[Sender] = field(default_factory=set)
    acquisitions: set[str] = field(default_factory=set)
    num_expected: int | None = None
    num_bytes: int = 0
    num_voxels: int = 0
    num_writing: int = 0
    is_too_large: bool = False
    last: float = 0.0

    @property
    def has_files(self) -> bool:
        """Whether any instance is on the disk, or on its way there."""
        return bool(self.names or self.num_writing)

    def add_sender(self, sender: Sender) -> None:
        """Note an association; a new one takes over from those that have ended, in whichever way."""
        if sender not in self.senders:
            self.senders = {sender, *(other for other in self.senders if other.is_established)}

    def is_whole(self, now: float, config: ReceiverConfig) -> bool:
        """Return whether nothing more is to be expected."""
        if self.num_writing or self.is_too_large or not self.names or self.refused - self.names:
            return False
        return now - self.last >= self._quiet_seconds(config)

    def is_lost(self, now: float, config: ReceiverConfig) -> bool:
        """Return whether its files are to be removed: it can no longer become whole."""
        if self.num_writing or not self.names or not (self.is_too_large or self.refused - self.names):
            return False
        return now - self.last >= (config.quiet_seconds if self.is_too_large else HELD_SECONDS)

    def is_forgotten(self, now: float) -> bool:
        """Return whether it has no files, and nothing more of it is to be expected."""
        return not self.has_files and now - self.last >= HELD_SECONDS

    def _quiet_seconds(self, config: ReceiverConfig) -> float:
        # The number of instances of one acquisition is none of a series of several.
        num_expected = self.num_expected or 0 if len(self.acquisitions) < 2 else 0
        if num_expected and len(self.names) >= num_expected:
            return min(COUNTED_QUIET_SECONDS, config.quiet_seconds)
        is_finished = self.senders and all(sender.is_released for sender in self.senders)
        return config.quiet_seconds if is_finished and not num_expected else config.unfinished_seconds

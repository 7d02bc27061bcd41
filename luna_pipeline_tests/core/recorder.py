"""A listener that remembers what it was told."""

from dataclasses import dataclass, field

from luna_pipeline.core.events.messages import Message


@dataclass
class Recorder:
    """Takes every message; raises ``error`` at the first of type ``raise_at``."""

    messages: list[Message] = field(default_factory=list)
    raise_at: type[Message] | None = None
    error: BaseException | None = None

    def handle_message(self, message: Message) -> None:
        self.messages.append(message)
        if self.raise_at is not None and isinstance(message, self.raise_at):
            raise self.error

    def close(self) -> None:
        pass

    def of(self, kind):
        """Messages of a type, in their order."""
        return [message for message in self.messages if isinstance(message, kind)]

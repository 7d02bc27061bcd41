"""Names of weights that were saved from a wrapped network."""

from collections.abc import Iterable

# In front of every name of a state dict.
WRAPPERS = {"module.": "DataParallel or DistributedDataParallel", "_orig_mod.": "torch.compile"}


def wrapper_of(names: Iterable[str]) -> str | None:
    """Return the reason and the remedy if all names have the prefix of a wrapper; None if they do not."""
    names = list(names)
    for prefix, wrapper in WRAPPERS.items():
        if names and all(name.startswith(prefix) for name in names):
            attribute = prefix.removesuffix(".")
            reason = f"All names start with {prefix!r}: the weights were saved from a network in {wrapper}"
            return f"{reason}. Save `network.{attribute}.state_dict()`, or remove the prefix."
    return None

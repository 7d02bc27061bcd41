"""The published nodule classifier and segmentation of the book, as weights of this project's networks.

The book's files are pickled dictionaries of training runs, of which only ``model_state`` is read. Its tensors tell
which of the two networks it is. Cutouts for the classifier are cut by the edge rule ``shift``.

Source:
    Stevens, Antiga, Viehmann: Deep Learning with PyTorch, 2020, chapters 13 and 14; its files
    ``cls_2020-02-06_14.16.55_final-nodule-nonnodule.best.state`` and
    ``seg_2020-01-26_19.45.12_w4d3c1-bal_1_nodupe-label_pos-d1_fn8-adam.best.state``.
"""

import datetime
import io
from pathlib import Path
from typing import Any

import torch

from luna_pipeline.core.networks.config import NetworkConfig
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline.core.networks.wrapped_names import wrapper_of
from luna_pipeline.core.storage.regular_files import NotRegularFileError, open_regular
from luna_pipeline.core.storage.zip_limits import zip_problem

MAX_BOOK_BYTES = 64 << 20
"""Largest file that is read; the larger one of the book has 1.5 MB."""
BOOK_NETWORK = NetworkConfig(block="biased", n_blocks=4, conv_channels=8, dropout_rate=0.0)
BOOK_UNET = NetworkConfig(
    name="book_unet", block="biased", n_blocks=3, conv_channels=16, dropout_rate=0.0, chunk_shape_irc=(7, 64, 64)
)


class BookWeightsError(ValueError):
    """A file that does not hold one of the book's two networks."""


def import_book_weights(state_file: Path) -> tuple[NetworkConfig, dict[str, torch.Tensor]]:
    """Return the configuration of the book's classifier or segmentation, and its weights by this project's names.

    Args:
        state_file: The book's ``cls_….best.state`` or ``seg_….best.state``; code in it is not run.

    Raises:
        FileNotFoundError: If there is no such file.
        BookWeightsError: If it is another kind of file, or a tensor is missing, unknown or of another shape.
    """
    theirs = _model_state(state_file)
    is_unet = any("unet." in name for name in theirs)
    config, role = (BOOK_UNET, "segmentation") if is_unet else (BOOK_NETWORK, "classifier")
    expected = build_network(config).state_dict()
    their_name = {name: _book_name(name) for name in expected}
    differing = sorted(set(their_name.values()) ^ set(theirs))
    if differing:
        state = "no" if differing[0] not in theirs else "an unknown"
        msg = f"The book's {role} must hold each of its tensors, got {state} {differing[0]}"
        problem = f"{msg} and {len(differing) - 1} other differences"
        raise _refused(state_file, problem, advice=wrapper_of(theirs))
    for name, tensor in expected.items():
        found = theirs[their_name[name]]
        if found.shape != tensor.shape:
            msg = f"{their_name[name]} must have the shape {tuple(tensor.shape)}, got {tuple(found.shape)}"
            raise _refused(state_file, msg)
    return config, {name: theirs[their_name[name]].clone() for name in expected}


def _book_name(name: str) -> str:
    """Return the book's name of a weight: ``luna_blocks.0.conv1.weight`` is ``block1.conv1.weight`` there."""
    if name.startswith("luna_blocks."):
        _, position, rest = name.split(".", maxsplit=2)
        return f"block{int(position) + 1}.{rest}"
    return name.removeprefix("luna_head.")


def _model_state(state_file: Path) -> dict[str, torch.Tensor]:
    file = _content(state_file)
    try:
        # Apart from plain values and tensors the dictionary holds only the time of the training.
        with torch.serialization.safe_globals([datetime.datetime]):
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    # Bytes that were made to look like weights raise errors of any kind in torch.
    except Exception as error:
        reason = "got a file that torch cannot read without running its code"
        raise _refused(state_file, f"The book's weights must be a saved training run, {reason}") from error
    state = content.get("model_state") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        msg = "The book's weights must be a saved training run with a model_state, got a file without one"
        raise _refused(state_file, msg)
    return dict(state)


def _content(state_file: Path) -> io.BytesIO:
    try:
        with open_regular(state_file) as file:
            content = io.BytesIO(file.read(MAX_BOOK_BYTES + 1))
    except NotRegularFileError as error:
        raise _refused(state_file, f"The book's weights must be a file, got: {error}") from error
    except OSError as error:
        msg = f"The book's weights must exist, got no file {state_file.name} (folder {state_file.parent})."
        raise FileNotFoundError(f"{msg} Check the path.") from error
    if content.getbuffer().nbytes > MAX_BOOK_BYTES:
        raise _refused(state_file, f"The book's weights must have at most {MAX_BOOK_BYTES} bytes, got more")
    if content.read(4) == b"PK\x03\x04" and (problem := zip_problem(content)):
        raise _refused(state_file, f"The book's weights must be a saved training run, got {problem}")
    content.seek(0)
    return content


def _refused(state_file: Path, problem: str, advice: str | None = None) -> BookWeightsError:
    advice = advice or "Use the file `cls_….best.state` or `seg_….best.state` that the book's authors publish."
    return BookWeightsError(f"{problem} ({state_file}). {advice}")

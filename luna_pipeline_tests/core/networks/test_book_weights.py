"""The book's two networks in this project give the book's own figures."""

import contextlib
import datetime
import os
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from luna_pipeline.core.metrics.binary import binary_metrics
from luna_pipeline.core.networks.book_weights import BOOK_NETWORK, BOOK_UNET, BookWeightsError, import_book_weights
from luna_pipeline.core.networks.luna import build_network, scores_of


def book_state() -> dict[str, torch.Tensor]:
    """Tensors under the book's names, each of its own values."""
    generator = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {f"tail_batchnorm.{name}": (1,) for name in ("weight", "bias")}
    shapes |= {f"tail_batchnorm.running_{name}": (1,) for name in ("mean", "var")}
    for block, (incoming, outgoing) in enumerate([(1, 8), (8, 16), (16, 32), (32, 64)], start=1):
        for conv, channels in ((1, incoming), (2, outgoing)):
            shapes[f"block{block}.conv{conv}.weight"] = (outgoing, channels, 3, 3, 3)
            shapes[f"block{block}.conv{conv}.bias"] = (outgoing,)
    shapes |= {"head_linear.weight": (2, 1152), "head_linear.bias": (2,)}
    state = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return state | {"tail_batchnorm.num_batches_tracked": torch.tensor(7)}


def book_unet_state() -> dict[str, torch.Tensor]:
    """Tensors of the book's segmentation; its names are kept in this project."""
    torch.manual_seed(0)
    return build_network(BOOK_UNET).state_dict()


def book_file(folder: Path, state: object, *, name: str = "cls.best.state", **entries: object) -> Path:
    path = folder / name
    content = {"model_state": state, "time": datetime.datetime(2020, 2, 6), "epoch": 90, **entries}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_every_tensor_of_the_book_is_used_exactly_once(tmp_path):
    theirs = book_state()
    config, ours = import_book_weights(book_file(tmp_path, theirs))

    assert config == BOOK_NETWORK
    assert len(ours) == len(theirs) == 23
    assert sorted(float(value.double().sum()) for value in ours.values()) == sorted(
        float(value.double().sum()) for value in theirs.values()
    )
    assert torch.equal(ours["luna_blocks.2.conv1.weight"], theirs["block3.conv1.weight"])
    assert torch.equal(ours["luna_head.head_linear.bias"], theirs["head_linear.bias"])
    build_network(config).load_state_dict(ours, strict=True)


def test_the_segmentation_is_recognised_by_its_tensors_under_any_name(tmp_path):
    theirs = book_unet_state()
    config, ours = import_book_weights(book_file(tmp_path, theirs))
    assert config == BOOK_UNET
    assert len(ours) == len(theirs) == 81
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_a_segmentation_that_does_not_fit_is_called_one(tmp_path):
    state = book_unet_state()
    del state["unet.last.bias"]
    with pytest.raises(BookWeightsError, match=r"The book's segmentation must hold .* got no unet.last.bias and 0 "):
        import_book_weights(book_file(tmp_path, state))


@pytest.mark.seed_defect(53)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("block4.conv2.bias"), "got no block4.conv2.bias and 0 other differences"),
        (lambda state: state.update(extra=torch.ones(1)), "got an unknown extra and 0 other differences"),
        (
            lambda state: state.update({"head_linear.weight": torch.ones(2, 3)}),
            r"head_linear.weight must have the shape \(2, 1152\), got \(2, 3\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(tmp_path, change, message):
    state = book_state()
    change(state)
    with pytest.raises(BookWeightsError, match=message) as caught:
        import_book_weights(book_file(tmp_path, state))
    assert "\n" not in str(caught.value)


@pytest.mark.seed_defect(54)
@pytest.mark.parametrize(("prefix", "wrapper"), [("module.", "DataParallel"), ("_orig_mod.", "torch.compile")])
def test_weights_of_a_wrapped_network_are_refused_with_their_reason(tmp_path, prefix, wrapper):
    state = {f"{prefix}{name}": value for name, value in book_state().items()}
    cause = f"and 45 other differences .*All names start with '{prefix}': .* a network in {wrapper}.*remove"
    with pytest.raises(BookWeightsError, match=f"got (no|an unknown) .*block1.conv1.bias {cause}"):
        import_book_weights(book_file(tmp_path, state))


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", b"\x80\x02", b"PK\x03\x04 half a zip", pickle.dumps(["a", "list"], protocol=2)]
)
def test_another_kind_of_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "cls.best.state"
    path.write_bytes(content)
    with pytest.raises(BookWeightsError, match="must be a saved training run") as caught:
        import_book_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("state", [None, {"weight": 1.0}])
def test_a_training_run_without_weights_is_refused(tmp_path, state):
    with pytest.raises(BookWeightsError, match="with a model_state, got a file without one"):
        import_book_weights(book_file(tmp_path, state))


def test_what_cannot_be_the_books_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "cls.best.state"
    os.mkfifo(path)
    with pytest.raises(BookWeightsError, match="got a FIFO"):
        import_book_weights(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(BookWeightsError, match="at most 67108864 bytes, got more"):
        import_book_weights(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cls/data.pkl", bytes(30_000_000))
    with pytest.raises(BookWeightsError, match="got a packed member"):
        import_book_weights(path)
    path.unlink()
    path.symlink_to(path.name)
    with pytest.raises(BookWeightsError, match="got a link that leads nowhere"):
        import_book_weights(path)


def test_any_damaged_file_is_one_line(tmp_path):
    path = book_file(tmp_path, book_state())
    content, randomness = path.read_bytes(), random.Random(17)
    for _ in range(50):
        at = randomness.randrange(3000)
        path.write_bytes(content[:at] + bytes([randomness.randrange(256)]) + content[at + 1 :])
        with contextlib.suppress(BookWeightsError):
            import_book_weights(path)


def test_code_in_the_file_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "was_run",))

    with pytest.raises(BookWeightsError, match="without running its code"):
        import_book_weights(book_file(tmp_path, book_state(), sys_argv=Evil()))
    assert not (tmp_path / "was_run").exists()


def test_a_missing_file_is_named_with_its_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got no file cls.best.state"):
        import_book_weights(tmp_path / "cls.best.state")


@pytest.fixture(scope="module")
def book_network(real_data: Path) -> torch.nn.Module:
    (state_file,) = (real_data / "book").glob("cls_*.best.state")
    config, weights = import_book_weights(state_file)
    network = build_network(config)
    network.load_state_dict(weights, strict=True)
    return network.eval()


def probabilities(network: torch.nn.Module, chunks: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = [scores_of(network(part)) for part in torch.from_numpy(chunks).float()[:, None].split(32)]
    return torch.cat(parts).numpy()


TUTORIAL_FIGURES = {
    "197987940182806628828566429132_257:262:128": 3.656e-07,
    "219909753224298157409438012179_108:362:377": 0.9928958,
    "226456162308124493341905600418_122:313:427": 0.9748198,
    "226456162308124493341905600418_136:361:405": 0.99999857,
    "267957701183569638795986183786_317:353:164": 0.99953198,
    "332453873575389860371315979768_127:339:297": 9.435e-08,
}


@pytest.mark.real
def test_the_six_real_cutouts_score_as_by_the_books_code(book_network, real_data):
    from luna_pipeline.core.cutouts.tutorial_cache import read_tutorial_cutout

    paths = sorted((real_data / "cutouts").glob("*.npz"))
    chunks = np.stack([read_tutorial_cutout(path).ct_chunk for path in paths])
    scores = dict(
        zip((path.stem.rpartition(".")[2] for path in paths), probabilities(book_network, chunks), strict=True)
    )

    assert scores == pytest.approx(TUTORIAL_FIGURES, abs=1e-4)


@pytest.mark.real
def test_all_candidates_of_two_real_scans_score_as_by_the_books_code(book_network, real_data, lidc_root):
    from luna_pipeline.core.ct.catalogue import catalogue_series
    from luna_pipeline.core.ct.reading import read_ct
    from luna_pipeline.core.cutouts.cutting import CuttingParameters, cut_chunks

    expected = pd.read_csv(real_data / "book" / "reference" / "classifier_on_lidc.csv", dtype={"scan": str})
    expected["scored"] = np.nan
    for row in catalogue_series(lidc_root, patient_key=b"test").itertuples():
        ct = read_ct(lidc_root / row.path, series_instance_uid=row.series_instance_uid)
        is_here = expected["scan"].map(lambda scan, path=row.path: f"LIDC-IDRI-{scan}" in path)
        centers = np.array(
            [ct.grid.nearest_voxel(xyz) for xyz in expected.loc[is_here, ["coordX", "coordY", "coordZ"]].to_numpy()]
        )
        np.testing.assert_array_equal(centers, expected.loc[is_here, ["i", "r", "c"]])
        chunks = cut_chunks(ct.hounsfield, centers, CuttingParameters(edge_rule="shift"))
        expected.loc[is_here, "scored"] = probabilities(book_network, chunks)

    assert len(expected) == 175
    np.testing.assert_allclose(expected["scored"], expected["probability"], atol=1e-4, rtol=0)
    candidates = expected[expected["source"] == "candidate"]
    labels, scores = candidates["class"].to_numpy(), candidates["scored"].to_numpy()
    assert binary_metrics(labels, scores)["auc"] == 1.0
    assert (scores > 0.5).sum() == 27

"""The recipes on whole real scans: the book's procedure gives the book's own findings, ours fewer false ones."""

import functools
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luna_pipeline.core.ct.catalogue import catalogue_series
from luna_pipeline.core.ct.reading import Ct, read_ct
from luna_pipeline.core.diagnosis.diagnose import DiagnosisModel, DiagnosisModels, diagnose
from luna_pipeline.core.diagnosis.recipes import book, default
from luna_pipeline.core.diagnosis.result import Diagnosis, Role
from luna_pipeline.core.diagnosis.segmenting import segment
from luna_pipeline.core.networks.book_weights import import_book_weights
from luna_pipeline.core.networks.luna import build_network
from luna_pipeline_tests.diagnosis_models import model_version

NUM_COMPONENTS = {"C3N-00247": 1532, "LIDC-IDRI-0001": 674, "LIDC-IDRI-0003": 604}
# Annotated nodules of LUNA16: voxel (index, row, col) and diameter in mm.
NODULES = {
    "C3N-00247": [],
    "LIDC-IDRI-0001": [(89.7, 367.0, 316.0, 23.35)],
    "LIDC-IDRI-0003": [(75.4, 349.8, 367.0, 21.45), (82.7, 197.9, 307.6, 8.79), (83.8, 219.2, 221.1, 12.82)],
}
# A part of LIDC-IDRI-0001. The cutouts of findings in its inner slices do not depend on the rest.
PART, INNER = slice(70, 112), (87, 95)

pytestmark = pytest.mark.real


@pytest.fixture(scope="session")
def book_models(real_data: Path) -> DiagnosisModels:
    """The book's two networks; their versions are no matter here."""
    return DiagnosisModels(segmenter=_model(real_data, "segmenter"), classifier=_model(real_data, "classifier"))


def _model(real_data: Path, role: Role) -> DiagnosisModel:
    (state_file,) = (real_data / "book").glob("seg_*.state" if role == "segmenter" else "cls_*.state")
    config, weights = import_book_weights(state_file)
    network = build_network(config).eval()
    network.load_state_dict(weights, strict=True)
    return DiagnosisModel(network=network, version=model_version(role), chunk_shape_irc=config.chunk_shape_irc)


@pytest.fixture(scope="session")
def scan(real_data: Path, lidc_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ct]:
    """Reads a scan by its name, once."""

    @functools.cache
    def read(name: str) -> Ct:
        root = lidc_root
        if name not in ("LIDC-IDRI-0001", "LIDC-IDRI-0003"):
            root = tmp_path_factory.mktemp("chest")
            with tarfile.open(real_data / "chest_dicom" / f"{name}.tar.xz") as archive:
                archive.extractall(root, filter="data")
        rows = catalogue_series(root, patient_key=b"test").itertuples()
        (row,) = (row for row in rows if root is not lidc_root or name in row.path)
        return read_ct(root / row.path, series_instance_uid=row.series_instance_uid)

    return read


def reference(real_data: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """World centres and probabilities by the book's own code, in falling order."""
    rows = json.loads((real_data / "book" / "reference" / f"{name}.json").read_text())
    return np.asarray([row["center_xyz"] for row in rows]), np.asarray([row["probability"] for row in rows])


def centers_of(diagnosis: Diagnosis) -> np.ndarray:
    """Centres as voxels with fractions (N, 3)."""
    centers = np.asarray([nodule.center_xyz for nodule in diagnosis.nodules])
    return diagnosis.grid.world_to_voxel(centers)


def probabilities_of(diagnosis: Diagnosis) -> np.ndarray:
    """Probabilities (N,)."""
    return np.asarray([nodule.probability for nodule in diagnosis.nodules])


def assert_same_findings(found: np.ndarray, found_scores: np.ndarray, expected: np.ndarray, scores: np.ndarray):
    """Each finding has one of the other list within a voxel, with the same probability; the order is the same."""
    assert len(found) == len(expected)
    distances = np.abs(expected[:, None] - found[None]).max(axis=2)
    nearest = distances.argmin(axis=1)
    assert len(set(nearest)) == len(expected)
    assert distances.min(axis=1).max() < 1.0
    np.testing.assert_allclose(found_scores[nearest], scores, atol=1e-3)
    np.testing.assert_allclose(found_scores, scores, atol=1e-3)


@pytest.fixture(scope="session")
def part(scan: Callable[[str], Ct]) -> Ct:
    """Some slices of LIDC-IDRI-0001 as a CT of its own, with the nodule in the middle."""
    ct = scan("LIDC-IDRI-0001")
    x_mm, y_mm, z_mm = ct.grid.voxel_to_world((PART.start, 0, 0))
    size_irc = (PART.stop - PART.start, *ct.grid.size_irc[1:])
    grid = replace(ct.grid, size_irc=size_irc, origin_xyz=(float(x_mm), float(y_mm), float(z_mm)))
    return replace(ct, hounsfield=ct.hounsfield[PART], grid=grid)


def test_the_segmentation_is_the_books(real_data, scan, book_models):
    expected = np.load(real_data / "book" / "reference" / "LIDC-IDRI-0001_segmentation.npz")["seg"]
    hounsfield = scan("LIDC-IDRI-0001").hounsfield
    for box in (np.s_[0:3, 0:512, 0:512], np.s_[86:94, 100:420, 60:460]):
        scores = segment(book_models.segmenter.network, hounsfield, box, book())
        assert scores.max() > 0.9
        np.testing.assert_allclose(scores * 255, expected[box], atol=1.0)


def test_the_books_recipe_gives_the_books_findings_in_a_part_of_a_scan(real_data, part, book_models):
    diagnosis = diagnose(part, book_models, book())
    centers, probabilities = reference(real_data, "LIDC-IDRI-0001")
    expected, found = part.grid.world_to_voxel(centers), centers_of(diagnosis)
    first, last = (number - PART.start for number in INNER)
    # A finding that the part's ends cut has another centre.
    is_whole = np.asarray(
        [nodule.box[0].start > 4 and nodule.box[0].stop < len(part.hounsfield) - 4 for nodule in diagnosis.nodules]
    )
    is_inner = is_whole & (found[:, 0] >= first) & (found[:, 0] <= last)
    nearest = np.abs(expected[:, None] - found[None, is_inner]).max(axis=2).argmin(axis=0)
    assert len(nearest) > 30
    assert_same_findings(
        found[is_inner], probabilities_of(diagnosis)[is_inner], expected[nearest], probabilities[nearest]
    )
    is_expected = (expected[:, 0] >= first) & (expected[:, 0] <= last)
    assert is_expected.sum() - len(nearest) <= 3
    nodule = diagnosis.nodules[0]
    assert nodule.probability > 0.99999
    assert np.abs(found[0] + [PART.start, 0, 0] - NODULES["LIDC-IDRI-0001"][0][:3]).max() < 2
    assert 15 < nodule.diameter_mm < 30


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NUM_COMPONENTS)
def test_the_books_recipe_gives_the_books_findings(real_data, scan, book_models, name):
    diagnosis = diagnose(scan(name), book_models, book())
    centers, probabilities = reference(real_data, name)
    assert len(diagnosis.nodules) == NUM_COMPONENTS[name]
    expected = diagnosis.grid.world_to_voxel(centers)
    assert_same_findings(centers_of(diagnosis), probabilities_of(diagnosis), expected, probabilities)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NUM_COMPONENTS)
def test_the_default_recipe_finds_the_annotated_nodules_first_and_half_of_the_false_ones(
    real_data, scan, book_models, name
):
    ct = scan(name)
    diagnosis = diagnose(ct, book_models, default())
    nodules = np.asarray(NODULES[name]).reshape(-1, 4)
    found, probabilities = centers_of(diagnosis), probabilities_of(diagnosis)
    first = nodule_of(found[: len(nodules)], nodules, ct)
    assert sorted(first.tolist()) == list(range(len(nodules)))
    assert (probabilities[: len(nodules)] > 0.99).all()
    centers, theirs = reference(real_data, name)
    of_book = nodule_of(ct.grid.world_to_voxel(centers), nodules, ct)
    num_false, num_false_of_book = (
        int(((scores > 0.5) & (of < 0)).sum())
        for scores, of in ((probabilities, nodule_of(found, nodules, ct)), (theirs, of_book))
    )
    print(f"{name}: {num_false} false findings above 0.5, the book's procedure {num_false_of_book}")
    assert num_false <= num_false_of_book / 2


def nodule_of(voxels: np.ndarray, nodules: np.ndarray, ct: Ct) -> np.ndarray:
    """Number of the nodule within whose radius each voxel (N, 3) lies, -1 for none: LUNA16's rule of a hit."""
    distances = np.linalg.norm((voxels[:, None] - nodules[None, :, :3]) * ct.grid.spacing_irc, axis=2)
    is_hit = distances < nodules[:, 3] / 2
    return np.where(is_hit.any(axis=1), is_hit.argmax(axis=1), -1) if len(nodules) else np.full(len(voxels), -1)

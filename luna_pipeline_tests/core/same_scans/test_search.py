"""Suspected pairs by signatures: common anchors, near thumbnails, and what rules pairs out."""

from dataclasses import replace

import numpy as np
import pytest

from luna_pipeline.core.same_scans.anchors import Anchors
from luna_pipeline.core.same_scans.orientations import ORIENTATIONS
from luna_pipeline.core.same_scans.search import SuspectedPair, _invariants, suspected_pairs, thumbnail_distance
from luna_pipeline.core.same_scans.signatures import ScanSignature, signature_of
from luna_pipeline_tests.core.same_scans.examples import noisy_tissue

FLAT = np.zeros((16, 16, 16), np.int16)


def with_anchors(*hashes: int) -> ScanSignature:
    found = Anchors(np.array(sorted(hashes), np.uint64), np.zeros((len(hashes), 3), np.int16))
    return ScanSignature((30, 30, 30), 27_000, found, FLAT)


def test_common_anchors_are_counted_for_each_pair():
    pairs = suspected_pairs([with_anchors(1, 2, 3), with_anchors(9), with_anchors(2, 3, 4), with_anchors(4, 3)])
    assert [(pair.first, pair.second, pair.num_anchors) for pair in pairs] == [(0, 2, 2), (0, 3, 1), (2, 3, 2)]
    assert all(np.isnan(pair.thumbnail_hu) for pair in pairs)


def test_of_an_anchor_of_many_scans_each_is_paired_with_the_next():
    pairs = suspected_pairs([with_anchors(7)] * 25)
    assert [(pair.first, pair.second) for pair in pairs] == [(at, at + 1) for at in range(24)]
    assert len(suspected_pairs([with_anchors(7)] * 24)) == 24 * 23 // 2


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_scans_have_no_pair(number: int):
    assert suspected_pairs([with_anchors(1)] * number) == []


def test_thumbnails_are_near_in_any_orientation_and_not_to_another_scan():
    scan, other = signature_of(noisy_tissue(0)), signature_of(noisy_tissue(1))
    turned = replace(scan, anchors=with_anchors().anchors, thumbnail=ORIENTATIONS[29].of(scan.thumbnail) + 3)
    assert suspected_pairs([scan, other, turned]) == [SuspectedPair(0, 2, 0, 3.0)]


def test_small_and_uniform_blocks_are_not_compared_by_thumbnail():
    uniform = with_anchors()
    small = replace(signature_of(noisy_tissue(0)), size_irc=(23, 60, 60), anchors=uniform.anchors)
    assert suspected_pairs([uniform, uniform, small, small]) == []


def test_what_rules_pairs_out_is_never_larger_than_the_distance():
    rng = np.random.default_rng(0)
    for _ in range(10):
        one, other = rng.integers(-1000, 400, (2, 16, 16, 16)).astype(np.int16)
        near = (one + rng.integers(-9, 9, one.shape)).astype(np.int16)
        for second in (other, near, ORIENTATIONS[17].of(one)):
            bound = float(np.linalg.norm(_invariants(one) - _invariants(second)))
            assert bound <= thumbnail_distance(one, second) + 1e-9

import pytest

from luna_pipeline.core.training.cadence import is_validation_due


@pytest.mark.seed_defect(38)
@pytest.mark.parametrize(
    ("num_epochs", "cadence", "due"),
    [
        (12, 5, [1, 5, 10, 12]),
        (10, 5, [1, 5, 10]),
        (4, 1, [1, 2, 3, 4]),
        (3, 100, [1, 3]),
        (1, 5, [1]),
        (6, 2, [1, 2, 4, 6]),
    ],
)
def test_the_first_every_cadenceth_and_the_last_epoch_are_validated(num_epochs, cadence, due):
    epochs = range(1, num_epochs + 1)
    assert [e for e in epochs if is_validation_due(e, num_epochs=num_epochs, cadence=cadence)] == due


@pytest.mark.parametrize(("epoch", "cadence"), [(0, 1), (4, 1), (1, 0)])
def test_what_is_no_epoch_or_no_cadence_is_refused(epoch, cadence):
    with pytest.raises(ValueError, match=r"must be (from 1 to 3|at least 1), got"):
        is_validation_due(epoch, num_epochs=3, cadence=cadence)

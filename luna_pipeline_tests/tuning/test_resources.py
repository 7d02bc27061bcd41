import pytest

from luna_pipeline.cluster.session import RayResources
from luna_pipeline.tuning.resources import TrialResources


def there(num_cpus: float, num_gpus: float = 0.0) -> RayResources:
    return RayResources(num_cpus, num_gpus, 1)


@pytest.mark.parametrize(
    ("resources", "num_gpus", "asked"),
    [
        (TrialResources(), 0, {"cpu": 1, "gpu": 0.0}),
        (TrialResources(), 4, {"cpu": 1, "gpu": 1.0}),
        (TrialResources(), 0.5, {"cpu": 1, "gpu": 0.5}),
        (TrialResources(cpus=3, gpus=0), 4, {"cpu": 3, "gpu": 0}),
        (TrialResources(cpus=8, gpus=2), 4, {"cpu": 8, "gpu": 2}),
        (TrialResources(gpus=0.25), 1, {"cpu": 1, "gpu": 0.25}),
    ],
)
def test_ray_is_asked_for_one_gpu_where_there_is_any_unless_it_is_said_otherwise(resources, num_gpus, asked):
    assert resources.of(there(8, num_gpus)) == asked


@pytest.mark.parametrize(
    ("resources", "num_cpus", "num_gpus", "expected"),
    [
        # CPUs only.
        (TrialResources(), 8, 0, 8),
        (TrialResources(cpus=3), 8, 0, 2),
        (TrialResources(cpus=8), 8, 0, 1),
        # GPUs limit first, then CPUs.
        (TrialResources(), 8, 2, 2),
        (TrialResources(cpus=4), 8, 3, 2),
        (TrialResources(gpus=2), 64, 7, 3),
        (TrialResources(gpus=0), 8, 2, 8),
        # No trial uses parts of two GPUs.
        (TrialResources(gpus=0.5), 8, 2, 4),
        (TrialResources(gpus=0.6), 8, 2, 2),
        (TrialResources(gpus=0.4), 8, 3, 6),
        # Ten tenths fit on a GPU, although 1 // 0.1 is 9.
        (TrialResources(gpus=0.1), 99, 1, 10),
        (TrialResources(gpus=0.2), 99, 2, 10),
        (TrialResources(gpus=0.3), 99, 1, 3),
        (TrialResources(), 8, 0.5, 1),
        # max_concurrent above and below the resources.
        (TrialResources(max_concurrent=3), 8, 0, 3),
        (TrialResources(max_concurrent=9), 8, 0, 8),
        (TrialResources(gpus=0.5, max_concurrent=3), 8, 2, 3),
    ],
)
def test_so_many_trials_run_at_once_as_there_is_room_for(resources, num_cpus, num_gpus, expected):
    at_once = resources.concurrent(there(num_cpus, num_gpus))
    assert at_once == expected
    assert type(at_once) is int


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            TrialResources(cpus=5),
            "There must be room for a trial of 5 CPUs and 1 GPUs, got 4 CPUs and 1 GPUs. "
            "Ask for less, or start more nodes.",
        ),
        (
            TrialResources(gpus=2),
            "There must be room for a trial of 1 CPUs and 2 GPUs, got 4 CPUs and 1 GPUs. "
            "Ask for less, or start more nodes.",
        ),
    ],
)
def test_a_trial_for_which_there_is_no_room_is_refused(resources, message):
    for ask in (resources.of, resources.concurrent):
        with pytest.raises(ValueError, match="There must be room") as refusal:
            ask(there(4, 1))
        assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cpus": 0}, "cpus must be at least 1, got 0"),
        ({"gpus": -0.5}, r"gpus must be in \[0, inf\), got -0.5"),
        ({"gpus": 1.5}, "gpus must be a part of one, or whole ones, got 1.5. Give up to 1, or a whole number."),
        ({"max_concurrent": 0}, "max_concurrent must be at least 1, got 0"),
        ({"max_restarts": -1}, "max_restarts must be at least 0, got -1"),
    ],
)
def test_what_no_trial_can_get_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrialResources(**values)


@pytest.mark.parametrize("name", ["cpus", "max_concurrent", "max_restarts"])
def test_parts_of_what_is_counted_are_refused(name):
    with pytest.raises(TypeError, match=f"{name} must be a whole number"):
        TrialResources(**{name: 1.5})


def test_whole_gpus_may_be_written_as_numbers_with_a_point():
    assert TrialResources(gpus=2.0).concurrent(there(8, 4)) == 2

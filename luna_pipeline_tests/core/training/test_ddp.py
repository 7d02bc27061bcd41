"""Several processes train one network: steps as of a single process, and files of the first process only."""

import contextlib
import io
import json
import textwrap

import numpy as np
import pytest

from luna_pipeline.core.metrics.binary import binary_metrics
from luna_pipeline.core.metrics.thresholds import youden_threshold
from luna_pipeline.core.models.scoring import predict
from luna_pipeline.core.training.building import network_of
from luna_pipeline.core.training.checkpoints import load_checkpoint, save_checkpoint
from luna_pipeline_tests.core.cutout_examples import write_examples
from luna_pipeline_tests.core.test_distributed import run_together
from luna_pipeline_tests.core.training.test_trainer import CONFIG, Run

PROGRAM = textwrap.dedent(
    """
    import json, sys, torch
    from pathlib import Path
    from luna_pipeline.core.datasets.splits import TrainingSplit, split_index
    from luna_pipeline.core.events.messages import LogBatch, LogMetrics
    from luna_pipeline.core.distributed import distributed_context
    from luna_pipeline.core.training.building import build_data_module, build_model
    from luna_pipeline.core.training.checkpoints import CheckpointStore, load_checkpoint
    from luna_pipeline.core.training.config import TrainingConfig
    from luna_pipeline.core.training.trainer import Trainer
    from luna_pipeline_tests.core.cutout_examples import write_examples
    from luna_pipeline_tests.core.recorder import Recorder

    root, out = Path({root!r}), Path({out!r})
    torch.set_num_threads(1)

    def train(processes, out, config):
        index, store = write_examples(out / f"cutouts{{processes.rank}}")
        training, validation, _ = split_index(index, TrainingSplit(test_fold=0, validation_fold=1))
        recorder = Recorder()
        data = build_data_module(config, training_index=training, validation_index=validation, store=store,
                                 processes=processes)
        model = build_model(config, handler=recorder, num_batches=data.num_training_batches, processes=processes,
                            start_from=load_checkpoint(root / "source.pt"))
        trainer = Trainer(config, handler=recorder, store=CheckpointStore(out), processes=processes,
                          seconds_between_checkpoints=0.0)
        trainer.fit(model, data, version="0.0.1")
        return {{"losses": [m.loss for m in recorder.of(LogBatch)],
                 "metrics": [dict(m.values) for m in recorder.of(LogMetrics)]}}

    configs = json.loads((root / "configs.json").read_text())
    with distributed_context() as processes:
        said = {{name: train(processes, out / name, TrainingConfig.from_dict(values))
                 for name, values in configs.items()}}
    print(json.dumps(said))
    """
)
# 12 training samples in batches of 5: the last batch has 2, and of 6 validation samples the last has 1.
STEPS = CONFIG.with_changes(
    {"network.dropout_rate": 0.0, "frozen": "batch_norm", "optimizer.name": "sgd", "num_epochs": 3}
)
CONFIGS = {
    "steps": STEPS,
    "accumulated": STEPS.with_changes(accumulated_batches=2),
    "trainable_norms": STEPS.with_changes(frozen="nothing"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a trained network, whose batch norms have statistics of the voxels, and the configurations."""
    root = tmp_path_factory.mktemp("together")
    network = {"network.dropout_rate": 0.0, "num_epochs": 2}
    source = Run(write_examples(root / "examples"), root, CONFIG.with_changes(network)).fit()
    save_checkpoint(root / "source.pt", source)
    (root / "configs.json").write_text(json.dumps({name: config.to_dict() for name, config in CONFIGS.items()}))
    return root


@pytest.fixture(scope="module")
def both(root):
    """What each of two processes said of each configuration; their files are in the folder ``both``."""
    return [json.loads(said) for said in run_together(PROGRAM.format(root=str(root), out=str(root / "both")))]


@pytest.fixture(scope="module")
def alone(root):
    """The same of this process, in the folder ``alone``."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(PROGRAM.format(root=str(root), out=str(root / "alone")), {})
    return json.loads(said.getvalue())


def checkpoint_of(root, processes: str, config: str, kind: str):
    return load_checkpoint(root / processes / config / f"classification/0.0.1/{kind}.pt")


@pytest.mark.parametrize("config", ["steps", "accumulated"])
def test_two_processes_take_the_steps_of_one_alone(root, both, alone, config):
    got, expected = both[0][config], alone[config]
    np.testing.assert_allclose(got["losses"], expected["losses"], atol=1e-5, rtol=0)
    for metrics, wanted in zip(got["metrics"], expected["metrics"], strict=True):
        assert metrics == pytest.approx(wanted, abs=1e-5, nan_ok=True)
    one, two = (checkpoint_of(root, name, config, "best") for name in ("alone", "both"))
    for name, value in one.model_state.items():
        np.testing.assert_allclose(two.model_state[name], value, atol=1e-5, err_msg=name)


@pytest.mark.usefixtures("alone", "both")
def test_metrics_hold_every_sample_once_in_the_order_of_one_process(root):
    one, two = (checkpoint_of(root, name, "steps", "last") for name in ("alone", "both"))
    assert (one.num_samples_seen, two.num_samples_seen) == (36, 36)
    assert set(two.rng_state) == {"0/cpu", "1/cpu"}
    assert one.best_score == pytest.approx(two.best_score, abs=1e-9)
    assert one.threshold == pytest.approx(two.threshold, abs=1e-5)


@pytest.mark.usefixtures("both")
def test_validation_judges_the_network_that_is_kept(root, tmp_path):
    """Trainable batch norms have separate statistics in each process; those of the first are saved and validated."""
    kept = checkpoint_of(root, "both", "trainable_norms", "best")
    run = Run(write_examples(tmp_path / "examples"), tmp_path)
    loader = run.data_module.get_validation_dataloader()
    scores = predict(network_of(kept), loader)[1]
    labels = run.data_module.validation.labels
    assert binary_metrics(labels, scores)["auc"] == pytest.approx(kept.best_score, abs=1e-9)
    assert youden_threshold(labels, scores) == pytest.approx(kept.threshold, abs=1e-6)

"""Several processes train one network: steps as of a single process, and files of the first process only."""

import json
import subprocess
import sys
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
    config = TrainingConfig.from_dict(json.loads((root / "config.json").read_text()))
    with distributed_context() as processes:
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
        said = {{"losses": [m.loss for m in recorder.of(LogBatch)],
                 "metrics": [dict(m.values) for m in recorder.of(LogMetrics)]}}
        print(json.dumps(said))
    """
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A trained network, whose batch norms have statistics of the voxels, and a configuration."""
    root = tmp_path_factory.mktemp("together")
    network = {"network.dropout_rate": 0.0, "num_epochs": 2}
    source = Run(write_examples(root / "examples"), root, CONFIG.with_changes(network)).fit()
    save_checkpoint(root / "source.pt", source)
    return root


def write_config(root, **changes):
    # 12 training samples in batches of 5: the last batch has 2, and of 6 validation samples the last has 1.
    network = {"network.dropout_rate": 0.0, "frozen": "batch_norm", "optimizer.name": "sgd", "num_epochs": 3}
    config = CONFIG.with_changes({**network, **changes})
    (root / "config.json").write_text(json.dumps(config.to_dict()))


def alone(root, tmp_path):
    program = PROGRAM.format(root=str(root), out=str(tmp_path / "alone"))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("accumulated_batches", [1, 2])
def test_two_processes_take_the_steps_of_one_alone(root, tmp_path, accumulated_batches):
    write_config(root, accumulated_batches=accumulated_batches)
    expected = alone(root, tmp_path)
    both = [json.loads(said) for said in run_together(PROGRAM.format(root=str(root), out=str(tmp_path / "both")))]
    np.testing.assert_allclose(both[0]["losses"], expected["losses"], atol=1e-5, rtol=0)
    for got, wanted in zip(both[0]["metrics"], expected["metrics"], strict=True):
        assert got == pytest.approx(wanted, abs=1e-5, nan_ok=True)
    one, two = (load_checkpoint(tmp_path / name / "classification/0.0.1/best.pt") for name in ("alone", "both"))
    for name, value in one.model_state.items():
        np.testing.assert_allclose(two.model_state[name], value, atol=1e-5, err_msg=name)


def test_metrics_hold_every_sample_once_in_the_order_of_one_process(root, tmp_path):
    write_config(root)
    run_together(PROGRAM.format(root=str(root), out=str(tmp_path / "both")))
    alone(root, tmp_path)
    one, two = (load_checkpoint(tmp_path / name / "classification/0.0.1/last.pt") for name in ("alone", "both"))
    assert (one.num_samples_seen, two.num_samples_seen) == (36, 36)
    assert set(two.rng_state) == {"0/cpu", "1/cpu"}
    assert one.best_score == pytest.approx(two.best_score, abs=1e-9)
    assert one.threshold == pytest.approx(two.threshold, abs=1e-5)


def test_validation_judges_the_network_that_is_kept(root, tmp_path):
    """Trainable batch norms have separate statistics in each process; those of the first are saved and validated."""
    write_config(root, frozen="nothing")
    run_together(PROGRAM.format(root=str(root), out=str(tmp_path / "both")))
    kept = load_checkpoint(tmp_path / "both/classification/0.0.1/best.pt")
    run = Run(write_examples(tmp_path / "examples"), tmp_path)
    loader = run.data_module.get_validation_dataloader()
    scores = predict(network_of(kept), loader)[1]
    labels = run.data_module.validation.labels
    assert binary_metrics(labels, scores)["auc"] == pytest.approx(kept.best_score, abs=1e-9)
    assert youden_threshold(labels, scores) == pytest.approx(kept.threshold, abs=1e-6)

"""A worker process that trains with one configuration of malloc, and answers requests.

The allocator is configured when a process starts, so each configuration needs a separate process. They run side by side
and get requests alternately; idle ones sleep.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.timing import Way
from benchmarks.training_data import TrainingWorkload

REPOSITORY = Path(__file__).resolve().parents[1]
TUNED = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
_MALLOC_VARIABLES = ("THP_MEM_ALLOC_ENABLE", "GLIBC_TUNABLES", "MALLOC_", "LD_PRELOAD")


@dataclass(frozen=True)
class WorkerKind:
    """A configuration of training.

    Attributes:
        name: Word in the results.
        is_project: Whether it is the project's procedure; else the tutorial's.
        environment: Environment variables for malloc.
        keeps_memory: Whether the process configures malloc to keep freed memory, as the project does (``core.malloc``).
        is_compiled: Whether the network is compiled with ``torch.compile``.
    """

    name: str
    is_project: bool
    environment: Mapping[str, str]
    keeps_memory: bool = False
    is_compiled: bool = False


KINDS = (
    WorkerKind("tutorial", False, {}),
    WorkerKind("tutorial_huge_pages", False, {"THP_MEM_ALLOC_ENABLE": "1"}),
    WorkerKind("tutorial_no_trim", False, {"GLIBC_TUNABLES": TUNED}),
    WorkerKind("project_plain_malloc", True, {}),
    WorkerKind("project", True, {"THP_MEM_ALLOC_ENABLE": "1"}, keeps_memory=True),
    WorkerKind("project_compiled", True, {"THP_MEM_ALLOC_ENABLE": "1"}, keeps_memory=True, is_compiled=True),
)
TUNED_TUTORIALS = ("tutorial_huge_pages", "tutorial_no_trim")


class Worker:
    """A running process of a kind; closed by ``with``."""

    def __init__(self, kind: WorkerKind, workload: TrainingWorkload, *, weights: Path) -> None:
        """Start it.

        Args:
            kind: The configuration.
            workload: Sizes.
            weights: File of the common initial weights; made by ``write_weights``.
        """
        self.kind = kind
        told = {"is_project": kind.is_project, "keeps_memory": kind.keeps_memory, "is_compiled": kind.is_compiled}
        work = {**told, "workload": asdict(workload), "weights": str(weights)}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_MALLOC_VARIABLES)}
        # Otherwise the compilation of an earlier run is reused.
        kept["TORCHINDUCTOR_CACHE_DIR"] = str(weights.with_name("translated"))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training_worker", json.dumps(work)],
            cwd=REPOSITORY,
            env={**kept, **kind.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def ask(self, question: str) -> Any:
        """Call a method of ``_Answers`` in the process and return its result.

        Raises:
            RuntimeError: If the process ended; its output is on standard error.
        """
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(question + "\n")
        asked.flush()
        if not (answer := answers.readline()):
            msg = f"A worker must answer, got exit code {self._process.wait()} ({self.kind.name}, {question})."
            raise RuntimeError(f"{msg} Read what it wrote above.")
        return json.loads(answer)

    def way(self, question: str) -> Way:
        """Return a function that times an answer."""
        return Way(self.kind.name, partial(self.ask, question))


def write_weights(workload: TrainingWorkload, path: Path) -> None:
    """Write the weights of a new network of the project, which are the tutorial's by name and shape."""
    import torch

    from benchmarks.project_training import ProjectClassifier, config_of

    torch.save(ProjectClassifier(config_of(workload, dropout_rate=0.0)).network.state_dict(), path)


class _Answers:
    """The requests that the process answers."""

    def __init__(self, work: dict[str, Any]) -> None:
        sizes: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in work["workload"].items()
        }
        self._workload = TrainingWorkload(**sizes)
        self._work = work
        self._trained = Path(work["weights"]).with_name("trained.pt")
        if work["keeps_memory"]:
            from luna_pipeline.core.malloc import keep_freed_memory

            keep_freed_memory()
        import torch

        self._torch = torch
        torch.manual_seed(self._workload.seed)
        self._classifier = self._new_classifier(dropout_rate=0.2)
        self._batch = self._batch_of(0, self._workload.batch_size)
        self._num_batches = self._workload.num_evaluated // self._workload.batch_size

    def train(self) -> float:
        """Take a step, with dropout; return its loss."""
        return float(self._classifier.train_step(*self._batch))

    def evaluate(self) -> list[float]:
        """Evaluate samples in one pass, a batch at a time; return their losses."""
        losses: list[float] = self._classifier.evaluate([self._batch] * self._num_batches)
        return losses

    def first_step(self) -> float:
        """Take a step and return its seconds: with ``torch.compile`` most of them are the compilation."""
        started = time.perf_counter()
        self.train()
        return time.perf_counter() - started

    def step_losses(self) -> list[float]:
        """Train from the common weights without dropout; return the loss of each step.

        The tutorial's final weights are written next to the common ones, for the evaluation by all.
        """
        classifier = self._new_classifier(dropout_rate=0.0)
        batches = [self._batch_of(number, self._workload.batch_size) for number in range(1, 3)]
        losses = [classifier.train_step(*batches[step % 2]) for step in range(self._workload.num_equal_steps)]
        if not self._work["is_project"]:
            self._torch.save(classifier.network.state_dict(), self._trained)
        return losses

    def sample_losses(self) -> list[float]:
        """Evaluate samples with the tutorial's final weights; return the loss of each."""
        judge = self._new_classifier(dropout_rate=0.0)
        judge.network.load_state_dict(self._torch.load(self._trained, weights_only=True))
        losses: list[float] = judge.evaluate([self._batch_of(3, self._workload.batch_size)])
        return losses

    def _batch_of(self, number: int, size: int) -> tuple[Any, Any]:
        import numpy as np

        from benchmarks.training_data import make_chunks

        labels = (np.arange(size) % 2).astype(np.int8)
        chunks = make_chunks(labels, self._workload, number=1000 + number)
        voxels = self._torch.from_numpy(chunks.astype(np.float32)).unsqueeze(1)
        return voxels, self._torch.from_numpy(labels.astype(np.int64))

    def _new_classifier(self, *, dropout_rate: float) -> Any:
        from benchmarks.project_training import ProjectClassifier, config_of
        from benchmarks.tutorial_training import TutorialClassifier, TutorialNetwork

        sizes = self._workload
        config = config_of(sizes, dropout_rate=dropout_rate, is_compiled=self._work["is_compiled"])
        if self._work["is_project"]:
            classifier: Any = ProjectClassifier(config)
        else:
            network = TutorialNetwork(
                sizes.chunk_shape_irc,
                conv_channels=sizes.conv_channels,
                n_blocks=sizes.n_blocks,
                dropout_rate=dropout_rate,
            )
            classifier = TutorialClassifier(
                network, learning_rate=config.optimizer.learning_rate, weight_decay=config.optimizer.weight_decay
            )
        classifier.network.load_state_dict(self._torch.load(self._work["weights"], weights_only=True))
        return classifier


def _answer_all() -> None:
    answers = _Answers(json.loads(sys.argv[1]))
    for question in sys.stdin:
        print(json.dumps(getattr(answers, question.strip())()), flush=True)


if __name__ == "__main__":
    _answer_all()

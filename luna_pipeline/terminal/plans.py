"""What each of the make targets runs: commands, their stages, and what is said before and after them."""

from dataclasses import dataclass, field

PHANTOM_CONFIG = '{{"ops": {{"make_phantom_data": {{"config": {{"seed": {seed}}}}}}}}}'


@dataclass(frozen=True)
class Stage:
    """A part of a command's work, recognised by the lines of its log.

    Attributes:
        title: Its name, one or two words.
        about: What it does.
        starts: Pattern of the first line; a stage also starts when the one before ends.
        ends: Pattern of the last line. Lines are ``job.step: message``. Empty: the end of the command.
        result: Pattern of a line with its result, and the text of the result with the pattern's groups; of several such
            lines the last one counts.
    """

    title: str
    about: str
    starts: str = ""
    ends: str = ""
    result: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Command:
    """A command and its stages.

    Attributes:
        arguments: Program and arguments; ``{seed}``, ``{config}``, ``{real}``, ``{data}`` and
            ``{book}`` (files) are replaced.
        stages: Its stages in order; the last one ends with the command.
    """

    arguments: tuple[str, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Plan:
    """The work of a make target.

    Attributes:
        target: Name of the target.
        about: What it does, in one sentence.
        duration: How long that takes.
        commands: Commands, one after the other; the first that fails ends the plan.
        look: What is worth a look afterwards, by its command.
        on_phantom: Whether it works in the demo's folders.
        default_config: Configuration file of the job, if it has one.
    """

    target: str
    about: str
    duration: str
    commands: tuple[Command, ...]
    look: dict[str, str] = field(default_factory=dict)
    on_phantom: bool = True
    default_config: str = ""

    def uses(self, name: str) -> bool:
        """Whether a value of this name, ``seed`` or ``config``, changes a command."""
        words = [word for command in self.commands for word in command.arguments]
        return any(f"{{{name}}}" in word for word in words) or (name == "config" and "--config-json" in words)

    @property
    def stages(self) -> list[Stage]:
        """Stages of all commands."""
        return [stage for command in self.commands for stage in command.stages]


def _look(root: str, *, ui: str) -> dict[str, str]:
    return {
        f"make ui ROOT={root}": f"Dagster: {ui} (http://127.0.0.1:3000)",
        f"make mlflow-server ROOT={root}": "MLflow: curves, models and their cards (http://127.0.0.1:8080)",
        f"make tensorboard-classification ROOT={root}": "TensorBoard: histograms and pictures (http://127.0.0.1:6006)",
    }


_TABLES = (r"`ingest`: .*ct_series (\d+) rows.*candidates (\d+) rows", "{0} CTs, {1} candidates and annotations")
_CUT = (r"cutouts: (\d+) series cut, (\d+) current, (\d+) failed", "{0} CTs cut, {1} unchanged, {2} failed")
_AUC = (r"epoch (\d+)/\d+ validation: .*\bauc ([\d.]+)", "validation AUC {1} after {0} epochs")
_EPOCHS = (r"epoch (\d+)/\d+ (?:training|validation): (.*)", "{1} after {0} epochs")
# Of a single scan there is no interval.
_CPM = (r"(CPM [\d.]+(?: \[[^]]*\])?) of (\S+), (.*?) \(", "{0}, {1}, {2}")


def _tables(op: str) -> Stage:
    ends = rf"{op}: `ingest`"
    return Stage(
        "Tables", "catalogues the CTs, matches candidates with nodules, assigns folds", ends=ends, result=_TABLES
    )


DEMO = Plan(
    target="demo",
    about="Everything on a synthetic phantom: from raw CTs to the score of a fold that the network has not seen.",
    duration="about four minutes on two cores",
    commands=(
        Command(
            ("dg", "launch", "--job", "demo", "--config-json", PHANTOM_CONFIG),
            (
                Stage(
                    "Raw CTs",
                    "writes synthetic chest CTs with nodules and similar structures",
                    ends=r"make_phantom_data: (Synthetic series (\d+) of \2:|The synthetic phantom is there)",
                    result=(r"make_phantom_data: .*?(\d+) (?:series|of \d+:)", "{0} synthetic CTs"),
                ),
                _tables("ingest_phantom"),
                Stage(
                    "Cutouts",
                    "cuts 32 slices of 48 by 48 voxels around each candidate",
                    ends=r"cut_phantom: `cut`",
                    result=_CUT,
                ),
                Stage(
                    "Network",
                    "trains a classifier without the test fold",
                    ends=r"train_nodule_classifier\.nodule_classifier: `nodule_classifier` of fold",
                    result=_AUC,
                ),
                Stage(
                    "Baselines",
                    "fits simple models that the network has to beat",
                    ends=r"train_on_phantom: `train_nodule_classifier`",
                    result=(r"feature_baseline (\d+) rows", "{0} scores"),
                ),
                Stage("Evaluation", "scores the untouched test fold as LUNA16 does, with intervals", result=_CPM),
            ),
        ),
    ),
    look=_look(".luna/demo", ui="every asset with its picture and numbers"),
)
DEMO_DIAGNOSIS = Plan(
    target="demo-diagnosis",
    about="The whole detector on the synthetic phantom: segmenter, official score, and the diagnosis of one CT.",
    duration="two to three minutes on two cores after `make demo`",
    commands=(
        Command(
            ("dg", "launch", "--job", "demo_diagnosis", "--config-json", PHANTOM_CONFIG),
            (
                _tables("prepare_phantom"),
                Stage(
                    "Cutouts",
                    "cuts what is missing or outdated",
                    ends=r"prepare_phantom: `cut`",
                    result=_CUT,
                ),
                Stage(
                    "Classifier",
                    "trains one unless there is one of this seed",
                    ends=r"prepare_phantom: `train_nodule_classifier`",
                    result=_AUC,
                ),
                Stage(
                    "Segmenter",
                    "trains a network that marks nodules voxel by voxel",
                    starts=r"^train_nodule_segmenter\.",
                    ends=r"train_segmenter_on_phantom: `train_nodule_segmenter`",
                    result=_EPOCHS,
                ),
                Stage(
                    "Detection",
                    "searches each CT of the untouched fold, and scores the findings",
                    ends=r"detect_on_phantom: `evaluate_detection`",
                    result=_CPM,
                ),
                Stage("Diagnosis", "diagnoses one CT of this fold and writes its report"),
            ),
        ),
    ),
    look=_look(".luna/demo", ui="the score of the detector and its pictures"),
)
STUDY = Plan(
    target="study",
    about="A search of eight trials around the demo's recipe on the synthetic phantom.",
    duration="about four minutes on two cores after `make demo`",
    commands=(
        Command(
            ("dg", "launch", "--job", "tune", "-c", "{config}"),
            (
                Stage(
                    "Index",
                    "locates the cutouts",
                    ends=r"nested_index: `index`",
                    result=(r"cutout_index (\d+) rows", "{0} cutouts"),
                ),
                Stage(
                    "Trials",
                    "trains with eight configurations; poor ones are stopped early",
                    ends=r"(\d+) of \1 trials ended",
                    result=(r"(\d+ of \d+ trials) ended", "{0}"),
                ),
                Stage(
                    "Winner",
                    "trains the best configuration on all but the test fold and compares it with the recipe",
                    result=(r"((?:Trial \d+ won|No trial was better).*)", "{0}"),
                ),
            ),
        ),
    ),
    look=_look(".luna/demo", ui="the table of the trials, and what mattered"),
    default_config="config/tuning.yaml",
)
REAL = Plan(
    target="real",
    about="The same jobs on two LIDC-IDRI scans of LUNA16. Research use only.",
    duration="some minutes on two cores",
    commands=(
        Command(
            ("python", "-m", "luna_pipeline_tests.real_data", "{real}", "{data}"),
            (Stage("Scans", "links the scans and tables into the data root"),),
        ),
        Command(
            ("luna", "import_book_weights", "{book}"),
            (Stage("Book", "imports the published networks of 'Deep Learning with PyTorch'"),),
        ),
        Command(
            ("dg", "launch", "--job", "ingest"),
            (Stage("Tables", "catalogues the CTs, matches candidates with nodules, assigns folds"),),
        ),
        Command(("dg", "launch", "--job", "cut"), (Stage("Cutouts", "cuts around each candidate", result=_CUT),)),
        Command(
            ("dg", "launch", "--job", "train_nodule_classifier", "-c", "config/real_training.yaml"),
            (Stage("Network", "trains on one scan, without the other", result=_EPOCHS),),
        ),
        Command(
            ("dg", "launch", "--job", "evaluate", "-c", "config/real_evaluation.yaml"),
            (Stage("Evaluation", "scores the untouched scan", result=_CPM),),
        ),
        Command(
            ("python", "-m", "luna_pipeline.jobs.demo_summary"),
            (Stage("Summary", "counts, seconds and scores"),),
        ),
    ),
    look=_look(".luna/real", ui="every asset with its picture and numbers"),
    on_phantom=False,
)
PLANS = {plan.target: plan for plan in (DEMO, DEMO_DIAGNOSIS, STUDY, REAL)}

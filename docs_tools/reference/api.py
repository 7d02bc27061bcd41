"""The page of the Python API: what scripts, notebooks and extensions use, by topic."""

# Title, a sentence, names below luna_pipeline.
TOPICS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Installation and data",
        "Folders of an installation, the synthetic data set, and the tables that were made.",
        (
            "settings.Settings",
            "core.phantom.dataset.ensure_phantom",
            "launchers.installation.read_table",
            "launchers.installation.read_index",
            "launchers.installation.cutout_store",
        ),
    ),
    (
        "Reading CTs",
        "A CT of any supported format as Hounsfield units and a grid, and conversion between voxels and millimetres.",
        (
            "core.ct.reading.read_ct",
            "core.ct.reading.open_ct",
            "core.ct.geometry.VoxelGrid",
            "core.lungs.mask.find_lungs",
        ),
    ),
    (
        "Candidates and folds",
        "The candidate table and the folds, which never share a series or a known patient.",
        (
            "core.candidates.tables.build_candidates",
            "core.candidates.folds.assign_folds",
            "core.candidates.submission.submission_csv",
        ),
    ),
    (
        "Cutouts",
        "Boxes of voxels around the candidates: how they are cut, stored and read.",
        (
            "core.cutouts.cutting.CuttingParameters",
            "core.cutouts.cutting.cut_chunks",
            "launchers.cutting.CuttingRequest",
            "launchers.cutting.create_cutouts",
            "core.cutouts.store.CutoutStore",
            "core.cutouts.series_cutouts.SeriesCutouts",
        ),
    ),
    (
        "Data sets",
        "Cutouts as PyTorch data sets, and the held-out folds.",
        (
            "core.datasets.splits.default_split",
            "core.datasets.cutouts.CutoutsDataset",
            "core.datasets.cutouts.MalignantCutoutsDataset",
            "core.datasets.batch.CutoutBatch",
        ),
    ),
    (
        "Networks and losses",
        "Configurations of networks and losses, and the registry for your own parts.",
        (
            "core.config.registry.Registry",
            "core.networks.config.NetworkConfig",
            "core.networks.config.LossConfig",
            "core.networks.luna.build_network",
            "core.networks.activation.activation_map",
        ),
    ),
    (
        "Training",
        "A run's configuration, the recipes, and training with or without trackers.",
        (
            "core.training.config.TrainingConfig",
            "core.training.recipes.recipe_by_name",
            "launchers.training.train.TrainingRequest",
            "launchers.training.run.RunOptions",
            "launchers.training.train.train",
            "launchers.training.train.train_once",
            "core.training.checkpoints.CheckpointStore",
            "core.training.building.network_of",
        ),
    ),
    (
        "Tuning",
        "A study: its search space, its trials and its result.",
        (
            "tuning.request.TuningRequest",
            "tuning.study.StudyConfig",
            "tuning.space.SearchSpace",
            "tuning.tune.tune_parameters",
        ),
    ),
    (
        "Evaluation",
        "Scores of candidates, LUNA16's FROC and CPM, thresholds and calibration. Research use only.",
        (
            "launchers.evaluation.predict.predict",
            "launchers.evaluation.scoring.predict_table",
            "core.evaluation.official.evaluate_froc",
            "core.evaluation.official.FrocResult",
            "core.evaluation.report.binary_report",
            "core.metrics.binary.binary_metrics",
            "core.metrics.decision.Decision",
        ),
    ),
    (
        "Diagnosis",
        "Nodules in one CT. Research use only; not a medical device.",
        (
            "launchers.diagnosis.diagnose.DiagnosisRequest",
            "launchers.diagnosis.diagnose.diagnose_ct",
            "core.diagnosis.recipes.DiagnosisRecipe",
        ),
    ),
    (
        "Extending",
        "Base classes and registrations of your own data source, model, trainer and listener; see "
        "[extend](../how_to/extend.md).",
        (
            "core.sources.source.DataSource",
            "core.models.base.BaseModel",
            "core.training.trainer.Trainer",
            "tracking.handlers.HandlerContext",
        ),
    ),
)


EXAMPLE = (
    "For example, the cutouts of a series, int16 HU (N, I, R, C), from the files of this installation:",
    "",
    "```python",
    "from luna_pipeline.launchers.installation import cutout_store",
    "from luna_pipeline.settings import Settings",
    "",
    'cutouts = cutout_store(Settings.from_environment()).read("SERIES_UID")',
    "print(cutouts.ct_chunks.shape, cutouts.candidate_id)",
    "```",
    "",
)


def page() -> str:
    """Return the page; mkdocstrings fills in signatures and docstrings."""
    lines = [
        "# Python API",
        "",
        "Functions and classes for scripts, notebooks and extensions, by topic, with arguments, shapes, units and "
        "errors. Import a name from the module in its heading's path; the names of `luna_pipeline.launchers` can "
        "also be imported from there. Modules that need PyTorch import it when they are used.",
        "",
        "Shapes: N samples, I slices, R rows, C columns. World positions (`_xyz`) are LPS millimetres. What is not "
        "listed here may change without notice.",
        "",
        *EXAMPLE,
    ]
    for title, sentence, names in TOPICS:
        lines += [f"## {title}", "", sentence, ""]
        for name in names:
            lines += [f"::: luna_pipeline.{name}", "    options:", "      show_root_full_path: true", ""]
    return "\n".join(lines)

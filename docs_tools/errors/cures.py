"""What to do about messages that do not say it, and places that raise the text of another error."""

_DICOM = "The text is a part of a longer message, which names the file. Copy the file again from its source, or export \
the series again; leave objects without an image out of the folder."
_RETRIED = (
    "The transfer is tried again by itself. If it fails for good, check the connection and run the command again."
)
_FAULT = "A fault of the program. Report it as an issue with the output of `--debug`."

# By the beginning of the place, ``module.function``; the first that fits.
CURES = {
    "core.ct.formats.dicom_": _DICOM,
    "core.ct.formats.luna25_block": "Unpack the file again from LUNA25's archive.",
    "core.candidates.csv_content": "Export the table again as CSV in UTF-8, or copy it again.",
    "core.config.json_files.json_object": "Correct the file, or make it again with the command that wrote it.",
    "core.ct.formats.luna25_metadata": "The text is a part of a longer message, which names the file. Unpack the file "
    "again from LUNA25's archive.",
    "core.ct.formats.packed_files": "The text is a part of a longer message, which names the file. Copy it again.",
    "core.storage.http_ranges": _RETRIED,
    "core.storage.zip_members": "The archive is damaged. Download it again.",
    "core.storage.chunked_file": _FAULT,
    "core.cutouts._gather": _FAULT,
    "core.datasets._augment": _FAULT,
    "core.sources.faults": "Run `luna check_data` on the folder: it lists every fault with what to do.",
    "serving.dicom.transport": "The connection is ended. Send smaller objects, or raise the limits of the receiver.",
    "runs.nested": "Open the run of that name in Dagster: its log names the step that failed and why.",
    "runs.storage_faults": "Dagster's storage was upgraded or removed while a run was going on. Launch the run again.",
    "launchers.__getattr__": "Import one of the names that `luna_pipeline.launchers` lists.",
    "alerts.channels._sender.send": "Try the address in `LUNA_ALERT_URLS`: its user, password and receiver.",
    "core.config.json_files._unique": "Remove one of the two keys from the file.",
    "core.cutouts.aligned_npz._refuse_constant": "The file is damaged. Cut the series again.",
    "core.diagnosis.manifest._unpacked": "The file is damaged. Diagnose the CT again.",
    "core.same_scans.scan_files._arrays": "The file is damaged. Run `luna find_same_scans` again.",
    "core.storage.files._refuse_way_up": "Remove the link from the folder.",
    "serving.security.tokens._tokens_in": "Remove the file of tokens and add the tokens again.",
    "tuning.records._as_progress": "Remove the file of the trial, or begin a new study.",
}

# What the rule of a message says already: "A must be one of B and C, got D."
REPEATS = frozenset(("Choose one of them.", "Correct it.", "Give an int.", "Give a float.", "Give such a value."))

# Messages of other programs that come up often, and what to do.
OTHER_SOFTWARE = (
    (
        "`CUDA out of memory` (PyTorch, GPU)",
        "Lower `--batch-size` (in Dagster `batch_size`), or end other programs on the GPU. With another "
        "batch size a training starts from scratch; `--set accumulated_batches=2` keeps the samples of a step. For a "
        "diagnosis, `--device cpu` uses the machine's memory instead.",
    ),
    (
        "`Killed`, exit code 137 or -9 (the operating system: out of memory)",
        "Use fewer `--workers` or a machine with more memory, and run the same command again: it resumes. "
        "A smaller `--batch-size` needs less, but starts a training from scratch.",
    ),
    (
        "`No space left on device`, `disk is full`",
        "[Free disk space](../../how_to/disk_space.md), then run the same command again.",
    ),
    (
        "`CUDA driver version is insufficient`, `Torch not compiled with CUDA enabled`",
        "Update the driver, or install [the build of torch for your GPU](../../start/install.md#with-a-gpu).",
    ),
    (
        "`Address already in use`",
        "Another program has the port: end it, or name another port with `--port`.",
    ),
    (
        "`database is locked` (SQLite)",
        "Several machines, or many runs at once, use one file. Use a server: `MLFLOW_TRACKING_URI` for MLflow, "
        "PostgreSQL for Dagster, as in [the stack](../../how_to/operate.md).",
    ),
    (
        "`Can't locate revision`, `out-of-date database schema` (Dagster, MLflow)",
        "The database is of another version: [upgrade](../../how_to/upgrade.md).",
    ),
)

# Places whose text is made elsewhere, by ``module.function``.
PASSED_ON = {
    "alerts.channels._webhook.send": "the answer of the server",
    "alerts.channels._sender.send": "the answer of the mail or chat server",
    "assets.leak_check.stop_at_leak": "the lines of the leak report",
    "core.evaluation.leaks.LeakReport.refuse": "the lines of the leak report",
    "core.cutouts.service.CtCutoutService._path_of": "the reason in the table of CTs",
    "launchers.diagnosis.input._readable": "the reason in the table of CTs",
    "core.diagnosis.manifest.manifest_of": "the format that was got, within another message",
    "core.storage.http_ranges._raise_for": "the HTTP status",
    "cli.options.usage_errors": "the text of the wrong option",
    "launchers.training.train._read_config": "the text of the wrong value",
    "core.storage.s3.status": "the path alone; callers say more",
}

"""What to do about messages that do not say it, and places that raise the text of another error."""

_WHOLE_MESSAGE = "The text is a part of a longer message, after `got`. Do what the end of that message says."
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
    "": _WHOLE_MESSAGE,
}

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

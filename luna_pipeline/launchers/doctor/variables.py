"""All environment variables of the project, and those that are set but not among them."""

import difflib
from collections.abc import Iterator, Mapping

from luna_pipeline.launchers.doctor.findings import Finding

VARIABLES = {
    "LUNA_DATA_DIR": "folder of raw CTs and tables; only read",
    "LUNA_HOME": "folder or address in S3 of everything that is produced",
    "LUNA_CACHE": "folder of local copies of objects in S3",
    "LUNA_SOURCE": "data sources by name, separated by commas; default: those that lie in the data root",
    "LUNA_MALIGNANCY_POLICY": "rule that makes a label of readers' ratings",
    "LUNA_EXTENSIONS": "Python files that register your own parts, separated by colons",
    "LUNA_VERIFY_READS": "1 or 0: compare cutout files with their checksums before they are first read",
    "LUNA_ASSUME_HU": "accept CTs whose values are not known to be HU",
    "LUNA_MAX_CT_GIB": "largest CT that is read, GiB",
    "LUNA_MAX_TABLE_MIB": "largest table that is read, MiB",
    "LUNA_MAX_CHECKPOINT_GIB": "largest checkpoint that is read, GiB",
    "LUNA_DEBUG": "1: show tracebacks",
    "LUNA_INCOMING_DIR": "folder of unseen CTs to diagnose; only read",
    "LUNA_INCOMING_QUIET_SECONDS": "seconds after which an unchanged incoming series is complete",
    "LUNA_SERVICE_DIR": "folder of what the service keeps",
    "LUNA_SERVING_CONFIG": "file with the service's settings",
    "LUNA_DAGSTER_URL": "address of Dagster, to which the service reports its diagnoses",
    "LUNA_MLFLOW_URL": "address of MLflow's page, for links",
    "LUNA_TENSORBOARD_URL": "address of TensorBoard's page, for links",
    "LUNA_REPOSITORY_URL": "address of the repository's page, for links to the source",
    "LUNA_REPOSITORY_BRANCH": "branch that these links show",
    "LUNA_KEEP_RUNS_DAYS": "days after which Dagster's runs are removed",
    "LUNA_ALERT_URLS": "addresses to which failed runs are reported",
    "LUNA_ALERT_WEBHOOK": "webhook to which failed runs are reported",
    "LUNA_ALERT_MAIL_TO": "receivers of mails about failed runs",
    "LUNA_ALERT_MAIL_FROM": "sender of these mails",
    "LUNA_SMTP_HOST": "mail server",
    "LUNA_SMTP_PORT": "its port",
    "LUNA_SMTP_USER": "its user",
    "LUNA_SMTP_PASSWORD": "its password",
}
"""Variables of the package, with their meaning."""
OTHERS = {
    *("LUNA_DATA", "LUNA_INCOMING", "LUNA_CERTIFICATES", "LUNA_TAG", "LUNA_IMAGE", "LUNA_VOLUME", "LUNA_CONTAINER"),
    *("LUNA_COMMAND", "LUNA_CODE_HOST", "LUNA_CODE_PORT", "LUNA_LISTEN", "LUNA_PROCESSES", "LUNA_STOP_SECONDS"),
    *("LUNA_MAX_HOURS", "LUNA_MAX_MONEY", "LUNA_PRICE_PER_HOUR", "LUNA_WORK", "LUNA_NEW", "LUNA_DAGSTER_FILES"),
    *("LUNA_DAGSTER_LOGS",),
}
"""Variables of the stack in containers and of the scripts below ``deploy``."""
_OF_TESTS = ("LUNA_TEST_", "LUNA_FUZZ_")


def variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Report each variable that begins with LUNA_ and is none of the project's: it has no effect."""
    known = [*VARIABLES, *sorted(OTHERS)]
    names = [name for name in environment if name.startswith("LUNA_") and not name.startswith(_OF_TESTS)]
    unknown = [name for name in names if name not in known]
    for name in unknown:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        fix = f"Did you mean {near[0]}? `unset {name}`." if near else f"unset {name}"
        yield Finding(name, "problem" if near else "note", "no variable of luna_pipeline, so it has no effect", fix)
    shown = ", ".join(sorted(set(names) - set(unknown))) or "none set, so the defaults hold"
    yield Finding("Variables", "ok", shown)

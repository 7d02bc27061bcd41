"""All environment variables of the project: name, meaning, default. The one list, for `luna doctor` and the reference.

Variables of tests (``LUNA_TEST_…``, ``LUNA_FUZZ_…``) are described in docs/development.md.
"""

from typing import NamedTuple


class Variable(NamedTuple):
    """An environment variable.

    Attributes:
        meaning: What it holds, with its unit.
        default: What holds without it.
    """

    meaning: str
    default: str


_OFF, _OF_STACK, _OF_SCRIPT = "none: off", "set by the stack", "none: must be set"
VARIABLES = {
    "LUNA_DATA_DIR": Variable(
        "Folder of raw CTs and tables. Only `luna download_luna16`, `luna import_lidc_annotations` and "
        "`luna check_data --template` write there.",
        "`.luna/data`",
    ),
    "LUNA_HOME": Variable("Everything that is produced: a folder, or an address `s3://bucket/prefix`.", "`.luna/home`"),
    "LUNA_CACHE": Variable("Folder of local copies of objects in S3; may be removed at any time.", "`.luna/cache`"),
    "LUNA_SOURCE": Variable("Data sources by name, separated by commas.", "those that lie in the data root"),
    "LUNA_MALIGNANCY_POLICY": Variable(
        "Rule that makes a label of the readers' malignancy ratings: `book`, `mean` or `median`.", "`book`"
    ),
    "LUNA_EXTENSIONS": Variable("Python files that register your own parts, separated by colons.", "none"),
    "LUNA_VERIFY_READS": Variable(
        "1 compares cutout files with their checksums before they are first read, 0 does not.", "1"
    ),
    "LUNA_ASSUME_HU": Variable("1 accepts CTs whose numbers do not look like HU.", "0"),
    "LUNA_MAX_CT_GIB": Variable("Largest CT that is read, in GiB of unpacked voxels.", "1"),
    "LUNA_MAX_TABLE_MIB": Variable("Largest table that is read, in MiB unpacked.", "256"),
    "LUNA_MAX_CHECKPOINT_GIB": Variable("Largest checkpoint that is read, in GiB.", "2"),
    "LUNA_DEBUG": Variable("1 shows tracebacks, as `luna --debug` does.", "none"),
    "LUNA_INCOMING_DIR": Variable(
        "Folder of unseen CTs to diagnose; only read, may be on a share.", "`.luna/incoming`"
    ),
    "LUNA_INCOMING_QUIET_SECONDS": Variable(
        "Seconds for which the files of an incoming CT must be unchanged before it is diagnosed.", "60"
    ),
    "LUNA_SERVICE_DIR": Variable(
        "Folder of what `luna serve` and `luna receive` keep; on a disk that their processes share.",
        "`service` in `LUNA_HOME`",
    ),
    "LUNA_DAGSTER_URL": Variable("Address of Dagster's page, for links in alerts and in MLflow's runs.", "none"),
    "LUNA_MLFLOW_URL": Variable(
        "Address of MLflow's page, for links in Dagster.",
        "that of `MLFLOW_TRACKING_URI`, else http://127.0.0.1:8080",
    ),
    "LUNA_TENSORBOARD_URL": Variable("Address of TensorBoard's page, for links in Dagster.", "http://127.0.0.1:6006"),
    "LUNA_REPOSITORY_URL": Variable(
        "Repository on GitHub or GitLab to which assets on Dagster's page link their source code.",
        "none: files of this machine",
    ),
    "LUNA_REPOSITORY_BRANCH": Variable("Branch of that repository.", "`main`"),
    "LUNA_KEEP_RUNS_DAYS": Variable(
        "Dagster's runs that ended more than this number of days ago are removed every Sunday.",
        "none: kept; 90 in the stack",
    ),
    "LUNA_ALERT_URLS": Variable(
        "Receivers of alerts of failed runs: apprise addresses of Slack, Teams, mail and others, separated by commas "
        "or lines.",
        _OFF,
    ),
    "LUNA_ALERT_WEBHOOK": Variable("Address that failed runs are posted to, as JSON.", _OFF),
    "LUNA_ALERT_MAIL_TO": Variable("Mail addresses for failed runs, separated by commas.", _OFF),
    "LUNA_ALERT_MAIL_FROM": Variable("Sender of these mails.", "the first receiver"),
    "LUNA_SMTP_HOST": Variable("Mail server.", "none: must be set for mails"),
    "LUNA_SMTP_PORT": Variable("Port of the mail server.", "587 with a user, else 25"),
    "LUNA_SMTP_USER": Variable("User of the mail server.", "none"),
    "LUNA_SMTP_PASSWORD": Variable("Password of that user.", "none"),
}
"""Variables that the package reads."""
OF_STACK = {
    "LUNA_DATA": Variable("Folder of raw CTs and tables that the containers read.", "the volume `data`"),
    "LUNA_INCOMING": Variable("Folder of unseen CTs that the containers read.", "the volume `incoming`"),
    "LUNA_CERTIFICATES": Variable("Folder of certificates of the DICOM receiver.", "the volume `certificates`"),
    "LUNA_SERVING_CONFIG": Variable("File with the service's configuration.", "`deploy/stack/serving.yaml`"),
    "LUNA_TAG": Variable("Tag of the image that the stack builds and runs.", "`local`"),
    "LUNA_IMAGE": Variable("Image that that of the LUNA25 container is made from (build argument).", "by `LUNA_TAG`"),
    "LUNA_CODE_HOST": Variable("Host of Dagster's code server.", _OF_STACK),
    "LUNA_CODE_PORT": Variable("Port of Dagster's code server.", _OF_STACK),
    "LUNA_LISTEN": Variable("Address that the code server listens on.", _OF_STACK),
    "LUNA_DAGSTER_FILES": Variable("Folder of Dagster's files.", _OF_STACK),
    "LUNA_DAGSTER_LOGS": Variable("Folder of the logs of steps.", _OF_STACK),
    "LUNA_CONTAINER": Variable("Slurm: command that starts the container, put before that of the training.", "none"),
    "LUNA_COMMAND": Variable("Slurm: training command of `luna`.", "`train_luna_classification`"),
    "LUNA_PROCESSES": Variable("Slurm: processes of a node without GPUs.", "1"),
    "LUNA_VOLUME": Variable("RunPod: folder of the network volume.", "`/workspace`"),
    "LUNA_MAX_HOURS": Variable("RunPod: hours of the work, over all restarts.", _OF_SCRIPT),
    "LUNA_MAX_MONEY": Variable("RunPod: money that the work may cost, in the currency of the price.", _OF_SCRIPT),
    "LUNA_PRICE_PER_HOUR": Variable("RunPod: price of the pod per hour.", _OF_SCRIPT),
    "LUNA_WORK": Variable("RunPod: name of the work; finished work of the same name is not repeated.", "its command"),
    "LUNA_STOP_SECONDS": Variable("RunPod: seconds before the limit at which the work gets SIGTERM.", "120"),
}
"""Variables of the stack in containers and of the scripts below ``deploy``."""
OF_OTHERS = {
    "DAGSTER_HOME": Variable(
        "Folder of Dagster's run history and configuration; its path has no `?` or `%`.",
        "`.luna/dagster` (make targets)",
    ),
    "MLFLOW_TRACKING_URI": Variable("Database or server of MLflow.", "an SQLite file in `LUNA_HOME`"),
    "RAY_ADDRESS": Variable("Head of a Ray cluster, `HOST:PORT`.", "none: Ray is started on this machine"),
    "AWS_ACCESS_KEY_ID": Variable("Key of the store, with `LUNA_HOME` in S3.", "none"),
    "AWS_SECRET_ACCESS_KEY": Variable("Secret of that key.", "none"),
    "AWS_ENDPOINT_URL": Variable("Address of a store that is not Amazon's.", "Amazon's"),
    "NO_COLOR": Variable("Any value: no colours in the output of `luna`.", "none"),
}
"""Variables of other software that matter here."""

"""The page of environment variables."""

from docs_tools.markdown import code, table
from luna_pipeline.core.config.variables import OF_OTHERS, OF_STACK, VARIABLES, Variable


def page() -> str:
    """Return the page."""
    lines = [
        "# Environment variables",
        "",
        "Variables that change where files lie and how the project behaves; each command, and Dagster's page, reads "
        "them when it starts. `luna doctor` shows those that are set, and names that no part of the project reads.",
        "",
        "By default everything is in the folder `.luna` of the repository. A folder that is set may be relative to the "
        "current folder, and may begin with `~`.",
        "",
        *_section("Of the package", VARIABLES),
        *_section("Of other software", OF_OTHERS),
        "With `LUNA_HOME` in S3, MLflow's database, TensorBoard's logs, diagnoses and the patient key are in the "
        "folder `local` next to `LUNA_CACHE`. Give the bucket a rule that aborts incomplete uploads. See "
        "[S3](../how_to/s3.md).",
        "",
        "Outside the repository, only the temporary folder and pip's cache are written to.",
        "",
        "## Of containers and scripts",
        "",
        "They are read by the stack in containers ([operations](../how_to/operate.md)) and by the scripts below "
        "`deploy` ([deploy](../how_to/deploy.md)), not by `luna`.",
        "",
        *_table(OF_STACK),
        "Variables of tests are described in [development](../development.md).",
        "",
    ]
    return "\n".join(lines)


def _section(title: str, variables: dict[str, Variable]) -> list[str]:
    return [f"## {title}", "", *_table(variables)]


def _table(variables: dict[str, Variable]) -> list[str]:
    rows = ((code(name), it.meaning, it.default) for name, it in variables.items())
    return table(("variable", "meaning", "default"), rows)

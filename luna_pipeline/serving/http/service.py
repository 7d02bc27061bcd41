"""What the routes of the HTTP front share."""

from dataclasses import dataclass

from luna_pipeline.serving.config import ServiceConfig
from luna_pipeline.serving.folders import ServiceFolders
from luna_pipeline.serving.jobs import Jobs
from luna_pipeline.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Service:
    """Parts of a running service; one object is given to every router.

    Attributes:
        settings: Paths of the installation.
        config: Configuration of the service.
        folders: Folders of the service.
        jobs: Jobs, safe to use from several threads.
    """

    settings: Settings
    config: ServiceConfig
    folders: ServiceFolders
    jobs: Jobs

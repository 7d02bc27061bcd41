"""MLflow runs of trials, with a stand-in for MLflow's client."""

from types import SimpleNamespace

from luna_pipeline.tuning.mlflow_runs import STUDY_TAG, TRIAL_TAG, _end_trial_runs
from luna_pipeline.tuning.records import FAILED, FINISHED, STOPPED_EARLY, TrialEnd, TrialRecords


class Client:
    """Knows runs of trials that are all running, and one that is no trial."""

    def __init__(self, trials: range) -> None:
        self.ended: dict[str, str] = {}
        tags = [{TRIAL_TAG: str(trial)} for trial in trials]
        infos = [SimpleNamespace(run_id=f"run{trial}", status="RUNNING") for trial in trials]
        runs = [
            SimpleNamespace(info=info, data=SimpleNamespace(tags=own)) for info, own in zip(infos, tags, strict=True)
        ]
        self.runs = [*runs, SimpleNamespace(info=infos[0], data=SimpleNamespace(tags={}))]
        self.runs[0].info.status = "FINISHED"

    def get_run(self, run_id: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(experiment_id="7"))

    def search_runs(self, experiment_ids: list[str], filter_string: str, max_results: int) -> list[SimpleNamespace]:
        assert (experiment_ids, filter_string) == (["7"], f"tags.`{STUDY_TAG}` = 'study'")
        return self.runs

    def set_terminated(self, run_id: str, status: str) -> None:
        assert run_id not in self.ended
        self.ended[run_id] = status


def test_runs_of_trials_end_with_the_status_of_their_trials(tmp_path):
    records = TrialRecords(tmp_path)
    for trial, state in enumerate([FINISHED, STOPPED_EARLY, FAILED]):
        records.end(TrialEnd(trial=trial, changes={}, state=state))
    client = Client(range(4))
    _end_trial_runs(SimpleNamespace(client=client, run_id="study"), SimpleNamespace(folder=tmp_path))
    assert client.ended == {"run1": "FINISHED", "run2": "FAILED", "run3": "KILLED"}

"""Results of runs in a sentence."""

import dagster as dg

from luna_pipeline.runs.results import MAX_LENGTH, NEWEST, result_of


def _said(op: dg.OpDefinition) -> str:
    @dg.job
    def job():
        op()

    with dg.DagsterInstance.ephemeral() as instance:
        return result_of(instance, job.execute_in_process(instance=instance, raise_on_error=False).run_id)


@dg.op
def cut(context: dg.OpExecutionContext):
    for number in range(2 * NEWEST):
        context.log.info("cut series %d", number)
    context.log.info("1 cut, 35 current\nand more")
    context.log.debug("Writing a file")


@dg.op
def tables(context: dg.OpExecutionContext):
    context.log_event(dg.AssetMaterialization("candidates", metadata={"dagster/row_count": 105, "seconds": 1.0}))
    context.log_event(dg.AssetMaterialization("rejected", metadata={"dagster/row_count": 0}))
    context.log_event(dg.AssetMaterialization("picture", metadata={"width": 3}))


@dg.op
def silent():
    pass


@dg.op
def long(context: dg.OpExecutionContext):
    context.log.warning("a" * 1000)


def test_last_message_and_rows_of_each_step_are_named_in_order():
    assert _said(cut) == "1 cut, 35 current"
    assert _said(tables) == "candidates 105 rows, rejected 0 rows"


def test_steps_are_named_in_the_order_in_which_they_ran():
    @dg.op(ins={"after": dg.In(dg.Nothing)})
    def predict(context: dg.OpExecutionContext):
        context.log.info("fold 0 of 5")

    @dg.job
    def job():
        predict(tables())

    with dg.DagsterInstance.ephemeral() as instance:
        run_id = job.execute_in_process(instance=instance).run_id
        assert result_of(instance, run_id) == "candidates 105 rows, rejected 0 rows; fold 0 of 5"


def test_step_without_words_is_done_and_a_long_message_is_shortened():
    assert _said(silent) == "done"
    assert len(_said(long)) == MAX_LENGTH

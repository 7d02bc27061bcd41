import pytest

from luna_pipeline.core.training.services import ServiceContainer


class Connection:
    def __len__(self) -> int:
        return 0  # empty, and so false, but there


class Writer(Connection):
    pass


class Tracker(Connection):
    pass


def make_container(closed, *, failing=()):
    def close(service):
        closed.append(type(service))
        if type(service) in failing:
            raise OSError(type(service).__name__)

    container = ServiceContainer()
    container.register_service(Connection, Connection(), on_close=close)
    container.register_service(Writer, Writer(), on_close=close)
    container.register_service(Tracker, Tracker(), on_close=close)
    return container


def test_a_service_is_found_by_its_type():
    container = ServiceContainer()
    container.register_service(str, "text")
    assert container.get_service(str) == "text"


def test_a_missing_service_is_named_with_those_that_are_there():
    container = ServiceContainer()
    container.register_service(str, "text")
    with pytest.raises(KeyError, match=r"got no int \(there: str\)"):
        container.get_service(int)


def test_creators_are_called_once_with_the_arguments_in_order():
    container, made = ServiceContainer(), []
    container.register_creator(str, lambda name: made.append("str") or name)
    container.register_creator(int, lambda name: made.append("int") or len(name))
    with pytest.raises(KeyError):
        container.get_service(str)
    container.call_all_creators(name="run")
    container.call_all_creators(name="other")
    assert (container.get_service(str), container.get_service(int), made) == ("run", 3, ["str", "int"])


def test_a_second_service_of_a_type_is_refused():
    container = ServiceContainer()
    container.register_service(str, "text")
    with pytest.raises(ValueError, match="must have one service, got a second str"):
        container.register_creator(str, str)


def test_services_are_closed_in_reverse_order_and_once():
    closed = []
    container = make_container(closed)
    container.close_all_services()
    container.close_all_services()
    assert closed == [Tracker, Writer, Connection]


@pytest.mark.seed_defect(65)
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_services_are_closed_after_a_crash_or_interrupt_which_passes_on(error):
    closed = []

    def crash():
        with make_container(closed):
            raise error

    with pytest.raises(error):
        crash()
    assert closed == [Tracker, Writer, Connection]


@pytest.mark.seed_defect(64)
def test_a_service_that_was_never_made_is_not_closed():
    closed = []
    with ServiceContainer() as container:
        container.register_creator(Writer, Writer, on_close=closed.append)
        container.register_service(str, "", on_close=closed.append)
    assert closed == [""]


def test_what_a_creator_made_is_closed_though_the_next_creator_fails():
    closed = []

    def fail():
        raise OSError("no disk")

    container = ServiceContainer()
    container.register_creator(str, lambda: "made", on_close=closed.append)
    container.register_creator(int, fail, on_close=closed.append)
    with pytest.raises(OSError, match="no disk"), container:
        container.call_all_creators()
    assert closed == ["made"]


def test_a_service_that_fails_to_close_keeps_no_other_open_and_is_reported():
    closed = []
    with pytest.raises(OSError, match="Tracker") as failure:
        make_container(closed, failing=(Tracker, Connection)).close_all_services()
    assert closed == [Tracker, Writer, Connection]
    assert failure.value.__notes__ == ["Then closing Connection failed: OSError('Connection')"]


class Opened:
    """A service that records the error with which it is closed."""

    def __init__(self, *, fails: BaseException | None = None):
        self.left_with = "not left"
        self._fails = fails

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.left_with = error
        if self._fails is not None:
            raise self._fails
        if error is not None:
            raise error


def run_with(opened, *, fails=None, closes_badly=None):
    """A run with a service that fails, or whose other service fails to close."""

    def fail(_value):
        raise closes_badly

    with ServiceContainer() as services:
        assert services.register_context(Opened, opened) is opened
        assert services.get_service(Opened) is opened
        if closes_badly is not None:
            services.register_service(int, 3, on_close=fail)
        if fails is not None:
            raise fails


@pytest.mark.seed_defect(65)
def test_a_context_is_left_with_the_error_that_ended_the_run():
    opened, error = Opened(), KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as raised:
        run_with(opened, fails=error)
    assert raised.value is error
    assert opened.left_with is error


def test_a_context_is_left_without_an_error_where_there_was_none():
    opened = Opened()
    run_with(opened)
    assert opened.left_with is None


def test_a_context_is_told_what_failed_to_close_before_it():
    opened, error = Opened(), OSError("disk")
    with pytest.raises(OSError, match="disk"):
        run_with(opened, closes_badly=error)
    assert opened.left_with is error


def test_a_context_that_cannot_be_left_fails_the_run():
    with pytest.raises(OSError, match="lost"):
        run_with(Opened(fails=OSError("lost")))

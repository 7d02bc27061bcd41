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

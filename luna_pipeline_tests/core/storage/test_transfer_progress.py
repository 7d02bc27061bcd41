"""Rate and time left of a transfer."""

from luna_pipeline.core.storage.transfer_progress import TransferProgress


def test_seconds_left_follow_from_the_bytes_of_this_call():
    now, seen = [0.0], []
    progress = TransferProgress(1000, 400, on_progress=seen.append, every_seconds=1.0, clock=lambda: now[0])
    assert progress.state().seconds_left is None
    now[0] = 0.5
    progress.add(50)
    assert seen == []
    now[0] = 2.0
    progress.add(50)
    # 100 bytes in 2 s: the 500 that are left take 10 s.
    assert [(it.done_bytes, it.bytes_per_second, it.seconds_left) for it in seen] == [(500, 50.0, 10.0)]
    assert seen[0].as_line() == "0.00 of 0.00 GB (50%), 0.0 MB/s, 10 s left"
    progress.add(-100)
    assert progress.state().done_bytes == 400
    assert progress.state().seconds_left is None


def test_nothing_to_transfer_is_complete():
    assert TransferProgress(0, 0, on_progress=print).state().as_line() == "0.00 of 0.00 GB (100%), 0.0 MB/s"

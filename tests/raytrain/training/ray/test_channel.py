"""The state of the channel between driver and workers, without Ray."""

from raytrain.training.ray.channel import ChannelActor, TrainEvent
from raytrain_core.errors import DataError, StorageError


def test_the_channel_remembers_the_first_final_error():
    channel = ChannelActor()
    assert not channel.failed()
    assert channel.begin_group() == 1
    channel.fail(StorageError("the network"), final=False)
    assert not channel.failed()
    assert str(channel.failure()) == "the network"
    assert channel.begin_group() == 2
    channel.fail(DataError("a broken shard"), final=True)
    channel.fail(StorageError("collateral"), final=False)
    assert channel.failed()
    assert isinstance(channel.failure(), DataError)


def test_messages_arrive_in_order_and_once():
    channel = ChannelActor()
    for n in range(3):
        channel.emit(TrainEvent("progress", str(n), {}))
    assert channel.drain() == [TrainEvent("progress", str(n), {}) for n in range(3)]
    assert channel.drain() == []
    assert not channel.stop_requested()
    channel.request_stop()
    assert channel.stop_requested()

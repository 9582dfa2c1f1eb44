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
    assert not channel.requests().stop
    channel.request_stop()
    assert channel.requests().stop


def test_a_request_for_a_checkpoint_is_met_by_one_taken_after_it():
    channel = ChannelActor()
    assert channel.is_checkpointed(channel.request_checkpoint())  # nobody trains yet
    channel.begin_group()
    first, second = channel.request_checkpoint(), channel.request_checkpoint()
    assert not channel.is_checkpointed(first)
    channel.checkpointed(first)
    assert (channel.is_checkpointed(first), channel.is_checkpointed(second)) == (True, False)
    channel.end_group()
    assert channel.is_checkpointed(second)  # the last checkpoint is committed
    assert not channel.requests().stop

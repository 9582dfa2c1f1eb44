"""A training worker as a process of its own; here, so that a fresh interpreter can import it."""

import torch
from tiny_feed import settings, stepper_of, tiny_feed, train, weights
from torch import distributed as dist

STEPS = 4


def work(rank, workers, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=workers)
    stepper = stepper_of(settings(steps=STEPS, optimizer="adamw"))
    records, _, _ = train(tiny_feed(), stepper, worker=rank, workers=workers)
    losses = [(r.loss, r.gradient_norm) for r in records]
    torch.save({"weights": weights(stepper), "losses": losses}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()

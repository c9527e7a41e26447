"""The scale of what networks see, from data."""

from collections import deque

import numpy as np
import torch
from torch import nn

from cleanmarl.training.errors import warn

TIMES = 20  # an entry may grow to so many times its largest size in the first batch


@torch.no_grad()
def set_scales(networks: nn.Module, batch: dict[str, torch.Tensor]):
    """Set the buffers `obs_scale` and `state_scale`, by which the networks divide.

    Each is the largest size of every entry in the batch's "obs" [..., obs_size] or "state"
    [..., state_size], at least 1. So entries of any unit become numbers of at most about 1.
    """
    for name, scale in networks.named_buffers():
        for what in ("obs", "state"):
            if name.endswith(f"{what}_scale"):
                largest = batch[what].abs().flatten(0, -2).amax(0)
                # What a network sees beside observations keeps its scale
                scale[: len(largest)] = largest.clamp(min=1)


def with_scales(weights: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a network; if they were saved without scales, those of the new network."""
    scales = {name: of for name, of in network.named_buffers() if name.endswith("_scale")}
    return scales | weights


class ScaleCheck:
    """Warns once if agents see an entry that is far beyond its scale.

    `qmix_memefficient.py` and copies that store observations in another way are not checked.
    """

    def __init__(self, networks: nn.Module, episodes: deque):
        self.agent = getattr(networks, "agent", None)
        self.episodes = episodes
        self.active = hasattr(self.agent, "obs_scale")

    def look(self):
        """Look at the newest episode, after an update has set the scale."""
        if not self.active or not self.episodes:
            return
        try:
            obs = np.abs(np.asarray(self.episodes[-1]["obs"], np.float32))
            seen = obs.reshape(-1, obs.shape[-1]).max(0)
        except (KeyError, IndexError, TypeError, ValueError):
            self.active = False
            return
        times = seen / self.agent.obs_scale.numpy(force=True)[: len(seen)]
        if times.max() > TIMES:
            self.active = False
            entry = times.argmax()
            what = f"entry {entry} of an observation is {seen[entry]:.3g}"
            than = f"{times[entry]:.0f} times its largest size in the first batch"
            warn(f"{what}, {than}: learning may suffer, so divide it in the environment")

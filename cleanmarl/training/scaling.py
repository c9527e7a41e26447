"""The scale of what networks see, from data."""

from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cleanmarl.training.errors import warn

TIMES = 20  # an entry may grow to so many times its largest size in the first batch


class ScaledLinear(nn.Linear):
    """A linear layer that divides its inputs by `scale` [in_features].

    It divides the weights instead, which are fewer numbers.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.register_buffer("scale", torch.ones(in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight / self.scale, self.bias)


@torch.no_grad()
def set_scales(networks: nn.Module, batch: dict[str, torch.Tensor]):
    """Set the scales of the layers that see observations, and of those in mixers, which see states.

    A scale is the largest size of each entry in the batch's "obs" [..., obs_size] or "state"
    [..., state_size], at least 1. So entries of any unit become numbers of at most about 1.
    """
    for name, layer in networks.named_modules():
        if isinstance(layer, ScaledLinear):
            seen = batch["state" if "mixer" in name else "obs"]
            largest = seen.abs().flatten(0, -2).amax(0)
            # What a network sees beside observations keeps its scale
            layer.scale[: len(largest)] = largest.clamp(min=1)


def with_scales(weights: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a network; if they were saved without scales, those of the new network."""
    scales = {name: of for name, of in network.named_buffers() if name.endswith("scale")}
    return scales | weights


def obs_scale(agent: nn.Module) -> torch.Tensor | None:
    """The scale of an agent's first layer; None if it has no such layer."""
    layers = (layer for layer in agent.modules() if isinstance(layer, ScaledLinear))
    return next((layer.scale for layer in layers), None)


class ScaleCheck:
    """Warns once if agents see an entry that is far beyond its scale.

    `qmix_memefficient.py` and copies that store observations in another way are not checked.
    """

    def __init__(self, networks: nn.Module, episodes: deque):
        self.scale = obs_scale(getattr(networks, "agent", nn.Module()))
        self.episodes = episodes
        self.active = self.scale is not None

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
        times = seen / self.scale.numpy(force=True)[: len(seen)]
        if times.max() > TIMES:
            self.active = False
            entry = times.argmax()
            what = f"entry {entry} of an observation is {seen[entry]:.3g}"
            than = f"{times[entry]:.0f} times its largest size in the first batch"
            warn(f"{what}, {than}: learning may suffer, so divide it in the environment")

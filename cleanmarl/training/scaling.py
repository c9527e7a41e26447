"""The scale of what networks see, from data."""

import torch
from torch import nn


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

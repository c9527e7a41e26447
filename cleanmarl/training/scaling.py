"""The scale of what networks see, and of the optimizer's eps, from data."""

from collections import deque

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from cleanmarl.entries import TINY, hard_to_learn
from cleanmarl.training.errors import Refused, warn

EPISODE = 5  # rewards of an episode for which eps is whole, a quarter of a won battle
TIMES = 20  # an entry may grow to so many times its scale
NOISE = 1e-6  # of numbers around 1, in float32
SMALLEST = 0.001  # scale: what is tiny in the first batch may be large later


class ScaledLinear(nn.Linear):
    """A linear layer that sees observations or states, and divides them by `scale` [in_features].

    It divides the weights instead, which are fewer numbers.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.register_buffer("scale", torch.ones(in_features))
        self.keeps_scale = False  # another run has set it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight / self.scale, self.bias)

    def _load_from_state_dict(self, *arguments):
        super()._load_from_state_dict(*arguments)
        self.keeps_scale |= bool((self.scale != 1).any())


@torch.no_grad()
def set_scales(networks: nn.Module, batch: dict[str, torch.Tensor]):
    """Set the scales of the layers that see observations, and of those in mixers, which see states.

    Layers of another run keep theirs.

    A scale is the largest size of an entry in the batch's "obs" [..., obs_size] or "state"
    [..., state_size], if that is above 1, or between rounding errors and `TINY`. So entries of any
    unit become numbers of about 1. What agents see after their observation, such as their last
    action, keeps its scale.

    Raises Refused if a layer has another number of inputs. Warns of what is hardly learned.
    """
    n_actions = batch["avail_actions"].shape[-1]
    layers = {n: layer for n, layer in scaled_layers(networks).items() if not layer.keeps_scale}
    kinds = {name: what_it_sees(name, layer, batch) for name, layer in layers.items()}
    for what in dict.fromkeys(kinds.values()):
        if reason := hard_to_learn(batch[what].flatten(0, -2).numpy(force=True)):
            warn(f"{'observations' if what == 'obs' else 'states'}: {reason}")
            break  # a state often consists of the observations
    for name, layer in layers.items():
        what = kinds[name]
        largest = batch[what].abs().flatten(0, -2).amax(0)
        size = len(largest)
        known = (size,) if what == "state" else (size, size + n_actions)
        if layer.in_features not in known:
            given = f"{name} is a ScaledLinear of {layer.in_features} inputs, but {what} has {size}"
            raise Refused(f"{given}: take nn.Linear for what is neither observation nor state")
        tiny = (largest > NOISE) & (largest < TINY)
        layer.scale[:size] = torch.where(tiny, largest.clamp(min=SMALLEST), largest.clamp(min=1))


def scale_eps(optimizer: torch.optim.Optimizer, args, progress):
    """Make eps smaller in proportion where no episode has earned `EPISODE`.

    Adam compares eps with the size of gradients, which grows with the rewards: an eps that is right
    for a battle's would slow the learning of small ones. Before any reward, eps is whole.
    """
    share = min(1, progress.largest_reward / EPISODE) or 1
    if getattr(args, "normalize_reward", False):  # gradients do not grow with the rewards
        share = 1
    for group in optimizer.param_groups:
        if isinstance(group.get("eps"), int | float):
            group["eps"] = group.setdefault("initial_eps", group["eps"]) * share


def scaled_layers(network: nn.Module) -> dict[str, ScaledLinear]:
    """name -> layer"""
    named = network.named_modules()
    return {name: layer for name, layer in named if isinstance(layer, ScaledLinear)}


def what_it_sees(name: str, layer: ScaledLinear, batch: dict[str, torch.Tensor]) -> str:
    """A layer with as many inputs as the state sees it; if obs has as many, too, a mixer's does."""
    size = batch["obs"].shape[-1]
    fits_obs = layer.in_features in (size, size + batch["avail_actions"].shape[-1])
    fits_state = layer.in_features == batch["state"].shape[-1]
    if fits_obs != fits_state:
        return "state" if fits_state else "obs"
    return "state" if "mixer" in name else "obs"


def keep_scales(networks: nn.Module):
    """From now on, `set_scales` leaves these layers as they are."""
    for layer in scaled_layers(networks).values():
        layer.keeps_scale = True


def with_scales(weights: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a network; if they were saved without scales, those of the new network."""
    layers = scaled_layers(network).items()
    return {f"{name}.scale".lstrip("."): layer.scale for name, layer in layers} | weights


class ScaleCheck:
    """Warns once if agents see an entry that is far beyond its scale.

    `qmix_memefficient.py` and copies that store observations in another way are not checked.
    """

    def __init__(self, networks: nn.Module, episodes: deque):
        layers = scaled_layers(getattr(networks, "agent", nn.Module())).values()
        self.scale = next((layer.scale for layer in layers), None)
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
            than = f"{times[entry]:.0f} times its scale from the first batch"
            warn(f"{what}, {than}: learning may suffer, so divide it in the environment")

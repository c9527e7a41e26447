"""Whether a mixer mixes the agents of one transition, is monotonic, and learns their targets."""

from copy import deepcopy

import numpy as np
import torch
from torch import nn

from cleanmarl.training.acting import with_random_weights
from cleanmarl.training.errors import Refused, warn

ROWS = 8  # transitions to try
PLACES = 10_000  # values of Q_tot that are told apart
FEW = 30  # different values that a batch should have
SMOOTH = 0.01  # on a curve, neighbours differ by less than this share of the variance


def check_mixer(mixer: nn.Module, inputs: tuple) -> tuple:
    """Try a mixer on the `inputs` of its `forward`: values q [N, n_agents], and what it sees.

    Raises Refused if Q_tot of a transition depends on the other transitions of the batch. Warns
    if Q_tot falls where the value of an agent rises. Returns inputs for another try, if it is fine.
    """
    try:
        rows = first_rows(inputs)
        q, *others = rows
        q = q + torch.randn(q.shape, generator=torch.Generator().manual_seed(0)).to(q)
        with torch.random.fork_rng(devices=[]):  # a mixer may draw random numbers
            mixes = depends_on_others(mixer, (q, *others))
            falls = decreases(mixer, q, others)
    except Exception:  # it is called in another way
        return ()
    if mixes:
        reason = "Q_tot of a transition depends on the other transitions of the batch"
        raise Refused(f"{reason}: let the mixer keep dimension 0, and mix over the agents")
    if falls:
        reason = "the mixer is not monotonic: Q_tot falls where the value of an agent rises"
        warn(f"{reason}, so the agents' best actions may not be the best joint action")
        return ()
    return rows


def first_rows(inputs: tuple) -> tuple:
    """The first transitions of the tensors that have as many rows as q."""
    n_rows = len(inputs[0])
    found = []
    for one in inputs:
        has_rows = isinstance(one, torch.Tensor) and one.ndim > 0 and len(one) == n_rows
        found.append(one[:ROWS].detach().clone() if has_rows else one)
    return tuple(found)


@torch.no_grad()
def depends_on_others(mixer: nn.Module, inputs: tuple) -> bool:
    """Random weights show it: in a new network, many are 0."""
    copy = with_random_weights(mixer).to(inputs[0].device).eval()
    every = copy(*inputs)
    for some in (slice(2), slice(-2, None)):  # the last ones may see earlier ones
        few = [one[some] for one in inputs]
        alone, again = copy(*few), copy(*few)
        if near(alone, again) and not near(alone, every[some]):
            return True
    return False


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-2, atol=1e-2)


@torch.enable_grad()
def decreases(mixer: nn.Module, q: torch.Tensor, others: list) -> bool:
    q.requires_grad_()
    copy = deepcopy(mixer).eval()
    (slope,) = torch.autograd.grad(copy(q, *others).sum(), q)
    return bool(slope.min() < -1e-4 * slope.abs().max())


def watch_targets(mixer: nn.Module):
    """Warn at the next update if each Q_tot is compared with the targets of all transitions.

    Then its gradient is a function of Q_tot: the transition's own target is not in it.
    """

    def look(_, inputs: tuple, q_tot: torch.Tensor):
        if not (isinstance(q_tot, torch.Tensor) and q_tot.requires_grad):
            return
        handle.remove()
        before = as_array(q_tot)
        q_tot.register_hook(lambda gradient: warn_of_curve(before, as_array(gradient)))

    handle = mixer.register_forward_hook(look)


def as_array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.flatten().double().numpy(force=True)  # NumPy has no bfloat16


def warn_of_curve(q_tot: np.ndarray, gradient: np.ndarray):
    """Warn if similar values of Q_tot have similar gradients. Few values show nothing."""
    places = np.round(PLACES * (q_tot - q_tot.min()) / (np.ptp(q_tot) + 1e-30))
    _, rows = np.unique(places, return_index=True)  # a row of each place, in order
    ordered = gradient[rows]
    if len(ordered) >= FEW and np.diff(ordered).var() < SMOOTH * ordered.var():
        remedy = "[N, 1] minus [N] is [N, N], so give both the same shape"
        warn(f"each Q_tot learns the average of all targets, not its own: {remedy}")

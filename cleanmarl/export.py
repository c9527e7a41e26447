"""A trained team as a program of `torch.export`, which runs with PyTorch alone."""

import io
import warnings

import numpy as np
import torch
from torch import nn

from cleanmarl.training.errors import in_one_line


class Program(nn.Module):
    """Greedy actions of all agents, from observations without ids.

    - `obs` [batch, n_agents, obs_size] float32
    - `avail_actions` [batch, n_agents, n_actions] bool
    - agents that see a clock also: `time_left` [batch] float32, from 1 to 0
    - recurrent agents also (after None, if they see no clock): `last_actions` [batch, n_agents]
      int64, -1 at the first step, and `hidden`, a tuple of tensors
      [layers, batch * n_agents, hidden_dim], zeros at the first step

    Returns the actions [batch, n_agents], the values of all actions [batch, n_agents, n_actions]
    and, for recurrent agents, the next `hidden`.
    """

    def __init__(
        self, agent: nn.Module, ids: np.ndarray, last_action: bool, n_actions: int, clock: int
    ):
        super().__init__()
        self.agent = agent
        self.clock = clock
        self.last_action = last_action
        self.n_actions = n_actions
        self.register_buffer("ids", torch.from_numpy(ids.copy()))

    def forward(self, obs, avail_actions, time_left=None, last_actions=None, hidden=None):
        ids = self.ids.expand(obs.shape[0], -1, -1)
        inputs = torch.cat((obs, ids), dim=-1)
        if time_left is not None:
            if self.clock > 1:  # bytes
                time_left = torch.floor(time_left * self.clock)
            left = time_left[:, None, None].expand(-1, inputs.shape[1], 1)
            inputs = torch.cat((inputs, left), dim=-1)
        if hidden is None:
            values = self.agent(inputs)
            return masked_argmax(values, avail_actions), values
        if self.last_action:
            kinds = torch.arange(self.n_actions)
            one_hot = (last_actions.unsqueeze(-1) == kinds).to(inputs.dtype)
            inputs = torch.cat((inputs, one_hot), dim=-1)
        rows = inputs.flatten(0, 1).unsqueeze(0)  # one step
        state = hidden if len(hidden) > 1 else hidden[0]  # a GRU's is no tuple
        values, state = self.agent(rows, state)
        values = values.view(avail_actions.shape)
        state = state if isinstance(state, tuple) else (state,)
        return masked_argmax(values, avail_actions), values, state


def masked_argmax(values: torch.Tensor, avail_actions: torch.Tensor) -> torch.Tensor:
    return torch.where(avail_actions, values, -torch.inf).argmax(-1)


def program(
    agent: nn.Module, args, ids: np.ndarray, obs_size: int, n_actions: int, clock: int
) -> bytes:
    """The content of a .pt2 file. Raises ValueError if PyTorch cannot export the network.

    `clock` is what agents see of the time left at the start of an episode, 0 without a clock.
    """
    n_agents, last_action = len(ids), getattr(args, "last_action", False)
    module = Program(agent, ids, last_action, n_actions, clock).eval()
    batch = 2
    inputs = [torch.zeros(batch, n_agents, obs_size)]
    inputs.append(torch.ones(batch, n_agents, n_actions, dtype=torch.bool))
    size = torch.export.Dim("batch", min=1, max=2**31 - 1)  # PyTorch 2.6 wants a largest size
    shapes = [{0: size}, {0: size}]
    if clock:
        inputs.append(torch.ones(batch))
        shapes.append({0: size})
    elif hasattr(args, "rnn"):
        inputs.append(None)
        shapes.append(None)
    if hasattr(args, "rnn"):
        inputs.append(torch.full((batch, n_agents), -1))
        parts = 2 if args.rnn == "lstm" else 1
        rows = torch.zeros(args.num_layers, batch * n_agents, args.hidden_dim)
        inputs.append(tuple(rows.clone() for _ in range(parts)))
        shapes += [{0: size}, tuple({1: n_agents * size} for _ in range(parts))]
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the places where recurrent layers keep weights
            exported = torch.export.export(module, tuple(inputs), dynamic_shapes=tuple(shapes))
        torch.export.save(exported, file)
    except Exception as error:
        reason = in_one_line(error)[:300]
        raise ValueError(f"PyTorch cannot export this network: {reason}") from error
    return file.getvalue()

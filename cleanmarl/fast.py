"""Ways to avoid PyTorch's time per call, which dominates if networks are small.

If a changed script breaks their assumptions, they fail with a clear error.
"""

from collections.abc import Callable
from inspect import signature
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn


def in_numpy(network: nn.Sequential) -> Callable[[np.ndarray], np.ndarray]:
    """A network of Linear and ReLU as a function of arrays, with the current weights.

    It is for the few rows of a step: with PyTorch, a training on 3m takes 1.1 times as long.
    Raises TypeError for other layers or another `forward`: then act with the network itself.
    """
    others = {*map(type, network)} - {nn.Linear, nn.ReLU}
    if others or type(network).forward != nn.Sequential.forward:
        raise TypeError(
            "in_numpy() supports only Linear and ReLU in sequence, and no other forward()"
        )
    layers = []
    for layer in network:
        if type(layer) is nn.Linear and layer.bias is None:
            raise TypeError("in_numpy() does not support a Linear without a bias")
        layers.append([part.detach().cpu().numpy().T for part in layer.parameters()])

    def forward(x: np.ndarray) -> np.ndarray:
        for layer in layers:
            x = x @ layer[0] + layer[1] if layer else np.maximum(x, 0)
        return x

    return forward


def recurrent_in_numpy(network: nn.Module) -> Callable:
    """A network's own `forward` on arrays, with the current weights.

    Its layers are LSTM, GRU, and those that `in_numpy` supports. Pass None or the hidden state that
    the last call returned. It is for the few rows of a step. Raises TypeError for other layers, or
    when `forward` calls functions of tensors: then act with the network itself.
    """
    if list(network.parameters(recurse=False)):
        raise TypeError("recurrent_in_numpy() does not support parameters outside of layers")
    layers = {}
    for name, layer in network.named_children():
        if type(layer) in STEPS:
            layers[name] = recurrent_layer(layer)
        elif isinstance(layer, nn.Sequential):
            layers[name] = in_numpy(layer)
        else:
            layers[name] = in_numpy(nn.Sequential(layer))
    in_arrays = SimpleNamespace(**layers)

    def forward(*inputs):
        try:
            return type(network).forward(in_arrays, *inputs)
        except (AttributeError, TypeError) as error:
            why = f"forward() of {type(network).__name__} does not run on arrays ({error})"
            raise TypeError(f"{why}: act with the network itself") from error

    return forward


def recurrent_layer(layer: nn.GRU | nn.LSTM) -> Callable:
    """[steps, rows, input_size], hidden state -> [steps, rows, hidden_size], hidden state."""
    if layer.batch_first or layer.bidirectional or layer.proj_size or layer.dropout:
        others = "batch_first, bidirectional, proj_size or dropout"
        raise TypeError(f"recurrent_in_numpy() does not support recurrent layers with {others}")
    if not layer.bias:
        raise TypeError("recurrent_in_numpy() does not support a recurrent layer without a bias")
    step = STEPS[type(layer)]
    weights = [[part.detach().cpu().numpy().T for part in parts] for parts in layer.all_weights]

    def forward(x: np.ndarray, hidden: list | None = None) -> tuple[np.ndarray, list]:
        if hidden is None:
            zeros = np.zeros((x.shape[1], layer.hidden_size), x.dtype)
            hidden = [(zeros, zeros)] * len(weights)
        outputs = []
        for output in x:
            after = []
            for parts, state in zip(weights, hidden, strict=True):
                state = step(output, *state, *parts)
                output = state[0]
                after.append(state)
            hidden = after
            outputs.append(output)
        return np.array(outputs), hidden

    return forward


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)  # this form never overflows


def lstm_step(x, h, c, w_ih, w_hh, b_ih, b_hh) -> tuple[np.ndarray, np.ndarray]:
    gates = x @ w_ih + b_ih + h @ w_hh + b_hh
    size = h.shape[-1]
    keep = sigmoid(gates[:, : 2 * size])  # input and forget gate
    new = np.tanh(gates[:, 2 * size : 3 * size])
    c = keep[:, size:] * c + keep[:, :size] * new
    return sigmoid(gates[:, 3 * size :]) * np.tanh(c), c


def gru_step(x, h, _, w_ih, w_hh, b_ih, b_hh) -> tuple[np.ndarray, None]:
    of_x = x @ w_ih + b_ih
    of_h = h @ w_hh + b_hh
    size = h.shape[-1]
    gates = sigmoid(of_x[:, : 2 * size] + of_h[:, : 2 * size])  # reset and update gate
    new = np.tanh(of_x[:, 2 * size :] + gates[:, :size] * of_h[:, 2 * size :])
    return new + gates[:, size:] * (h - new), None


STEPS = {nn.GRU: gru_step, nn.LSTM: lstm_step}


def as_vector(*networks: nn.Module) -> torch.Tensor:
    """Store all parameters one after the other in one tensor, and their gradients likewise.

    The parameters become views of this vector: a change of one changes the other. An optimizer
    step, a norm or an average then takes one call instead of one per parameter; a training on 3m
    takes 0.95 of the time. Make the vector last, after the networks are on their device, and let
    `check_vectors` check it.
    """
    parameters = [parameter for network in networks for parameter in network.parameters()]
    vector = nn.utils.parameters_to_vector(parameters).detach().requires_grad_()
    vector.grad = torch.zeros_like(vector)
    sizes = [parameter.numel() for parameter in parameters]
    parts = vector.detach().split(sizes)
    gradients = vector.grad.split(sizes)
    for parameter, part, gradient in zip(parameters, parts, gradients, strict=True):
        parameter.data = part.view_as(parameter)
        parameter.grad = gradient.view_as(parameter)
    return vector


def check_vectors(networks: nn.Module):
    """Raise RuntimeError unless `theta` has all learned parameters and `target_theta` all targets.

    Without this check, a network that was moved, replaced or added after `as_vector` would not
    learn, and a target network `target_<name>` might follow another network than `<name>`.
    """
    learned, targets = {}, {}
    for name, parameter in networks.named_parameters():
        vector = networks.theta if parameter.requires_grad else networks.target_theta
        offset = parameter.data_ptr() - vector.data_ptr()
        if not 0 <= offset < vector.nbytes:
            raise RuntimeError(
                f"{name} is not in its vector: call as_vector() last, with all networks"
            )
        places = learned if parameter.requires_grad else targets
        places[name.removeprefix("target_")] = offset
    if learned != targets:
        raise RuntimeError(
            "theta and target_theta have different orders, so update_targets() would mix them up: "
            "make both from the same networks in the same order, or update each target by itself"
        )


def make_optimizer(name: str, theta: torch.Tensor, learning_rate: float) -> torch.optim.Optimizer:
    """An optimizer of torch.optim, fused into one operation if it supports that."""
    kind = getattr(torch.optim, name)
    fused = {"fused": True} if "fused" in signature(kind).parameters else {}
    return kind([theta], lr=learning_rate, **fused)

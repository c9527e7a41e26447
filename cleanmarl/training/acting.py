"""A network as a function of NumPy arrays, to act with.

PyTorch spends most time on calls where networks are small and there are few rows. So layers that
are known here compute in NumPy, and the network's own `forward` runs on them. Other networks are
called as they are. Which way a network goes is found by trying: both ways must give the same.
"""

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import cache
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from cleanmarl.errors import Refused
from cleanmarl.training.scaling import ScaledLinear

INTERNAL = vars(nn.Module()).keys() - {"training"}

# For each network that has acted, its parts and the shape of its inputs: whether NumPy may act
checked: WeakKeyDictionary[nn.Module, dict] = WeakKeyDictionary()


def acting(network: nn.Module) -> Callable:
    """`network` as a function of arrays, with its current weights and without gradients.

    Arguments and results are what `forward` takes and returns, with float32 arrays in place of
    tensors, also inside tuples. (Observations may be bytes.)
    """
    in_torch = cache(lambda: in_pytorch(network))  # making it takes long, and few need it
    buffers = [module._buffers for module in network.modules() if module._buffers]
    weights = list(network.parameters())
    in_numpy, may_act, made_of = None, {}, None

    def contents() -> tuple[list, int]:
        """The buffers, which may be replaced, and how often a tensor was changed."""
        tensors = [tensor for some in buffers for tensor in some.values() if tensor is not None]
        return tensors, sum([one._version for one in weights + tensors])

    def values(*inputs):
        nonlocal in_numpy, may_act, made_of
        now = contents()
        if not same_contents(now, made_of):
            made_of, parts, in_numpy = now, [], None
            with suppress(Unknown, TypeError, RuntimeError):  # NumPy has no bfloat16, for example
                in_numpy = as_function(network, parts)
            # Another part, or another mode, needs another check
            may_act = checked.setdefault(network, {}).setdefault(tuple(parts[1:]), {})
        if inputs[0].dtype.kind == "u":
            inputs = (inputs[0].astype(np.float32), *inputs[1:])
        kind = (inputs[0].shape, inputs[-1] is None)  # the first step has no hidden state
        if kind not in may_act:
            refuse_mixing(network, inputs)
            may_act[kind] = in_numpy is not None and computes_the_same(network, inputs)
        if may_act[kind]:
            try:
                return in_numpy(*inputs)
            except Exception:  # in a part of forward() that was not tried
                may_act[kind] = False
        return in_torch()(*inputs)

    return values


def same_contents(now: tuple, before: tuple | None) -> bool:
    """Whether the buffers are the same, and no tensor was changed."""
    if before is None or now[1] != before[1]:
        return False
    return all(map(operator.is_, now[0], before[0]))


def in_pytorch(network: nn.Module) -> Callable:
    """The network itself as a function of arrays, on its own device and in its own precision."""
    weights = next(network.parameters(), torch.empty(0))

    def values(*inputs):
        with torch.no_grad():
            outputs = network(
                *each(inputs, lambda array: torch.from_numpy(array.copy()).to(weights))
            )
        return each(outputs, lambda tensor: tensor.float().numpy(force=True))

    return values


def each(value, function: Callable):
    """Apply a function to an array or tensor, or to each one in a container; None stays None."""
    if isinstance(value, dict):
        return {name: each(part, function) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return tuple(each(part, function) for part in value)
    return value if value is None else function(value)


def computes_the_same(network: nn.Module, inputs: tuple) -> bool:
    """Whether NumPy gives what PyTorch gives, on inputs like these and with random weights.

    Random, because in a new network many weights are 0, which hides differences. A network that
    changes itself or its inputs must act by itself.
    """
    try:
        copy = with_random_weights(network)
        inputs = random_like(inputs, np.random.default_rng(0))
        before = contents_of(copy)
        expected = in_pytorch(copy)(*inputs)
        each(inputs, lambda array: array.setflags(write=False))
        answer = as_function(copy, [])(*inputs)
        return close(answer, expected) and contents_of(copy) == before
    except Exception:  # forward() needs tensors
        return False


def with_random_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """A copy on the CPU."""
    stream = torch.Generator().manual_seed(seed)
    copy = deepcopy(network).cpu()
    for weights in copy.parameters():
        noise = torch.randn(weights.shape, generator=stream)
        weights.data.copy_(noise / math.sqrt(weights.shape[-1] if weights.ndim else 1))
    return copy


def random_like(inputs: tuple, rng: np.random.Generator) -> tuple:
    return each(inputs, lambda array: rng.normal(size=array.shape).astype(array.dtype))


def refuse_mixing(network: nn.Module, inputs: tuple):
    """Raise Refused if the values of one step depend on the other steps of a batch.

    Then agents would be taught other values than those by which they act. Raises Refused, too, if
    a copy of the network does not compute with its own weights: it would be no target network.
    """
    one = random_like(inputs, np.random.default_rng(0))
    other = random_like(inputs, np.random.default_rng(1))
    try:
        function, another = [
            in_pytorch(with_random_weights(network, seed).eval()) for seed in (0, 1)
        ]
        alone, again, together = in_a_batch(function, one, other)
        same = values_in(another(*other)), values_in(function(*other))
    except Exception:  # it does something else
        return
    if any(weights.requires_grad for weights in network.parameters()) and np.array_equal(*same):
        remedy = "call layers in forward() itself, and nothing that was made of them in __init__"
        raise Refused(f"a copy of the agent network computes with the original's weights: {remedy}")
    mixes = alone.shape != together.shape or not near(alone, together)
    if mixes and near(alone, again):
        shapes = "[..., n_agents, inputs]"
        if inputs[0].ndim == 3 and len(inputs) > 1:
            shapes = "[steps, rows, inputs], and a step sees no later ones"
        reason = f"the values of a step depend on the other steps of a batch: inputs are {shapes}"
        raise Refused(f"{reason}, so let agents mix over dimension -2 of the same step only")


def in_a_batch(function: Callable, one: tuple, other: tuple) -> tuple:
    """The values of the inputs `other`: alone, once more, and as a part of larger inputs."""
    alone, again = function(*other), function(*other)
    if len(other) == 1 or not isinstance(alone, tuple):  # [..., n_agents, inputs]
        join = np.stack if other[0].ndim == 2 else np.concatenate
        together = values_in(function(*map(join, zip(one, other, strict=True))))
        together = together[-1] if other[0].ndim == 2 else together[-len(other[0]) :]
        return values_in(alone), values_in(again), together
    # Recurrent, [steps, rows, inputs]: after other rows, and before a later step
    (values, hidden), rows = alone, other[0].shape[1]
    later = function(one[0], hidden)[0]
    after = function(*map(along_rows, one, other))[0][:, -rows:]
    before = function(np.concatenate((other[0], one[0])), *other[1:])[0]
    alone, again = [np.concatenate((part, part, later)) for part in (values, again[0])]
    return alone, again, np.concatenate((after, before))


def values_in(answer) -> np.ndarray:
    """What a network returns, or the first part of it."""
    return answer[0] if isinstance(answer, tuple) else answer


def along_rows(one, other):
    """Join arrays or hidden states along their rows; None stays None."""
    if isinstance(one, tuple | list):
        return tuple(along_rows(*pair) for pair in zip(one, other, strict=True))
    return one if one is None else np.concatenate((one, other), axis=1)


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return np.allclose(one, other, rtol=1e-2, atol=1e-2 * max(1, np.abs(one).max()))


def contents_of(network: nn.Module) -> list:
    """The identity of each attribute of a network and its parts, and the numbers in its tensors."""
    found = []
    for module in network.modules():
        found += [(name, id(value)) for name, value in vars(module).items()]
    return found + [tensor.tolist() for tensor in network.state_dict().values()]


def close(one, other) -> bool:
    """Whether results are equal, except for rounding."""
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(close, one, other))
    if one is None or other is None:
        return one is other
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and np.allclose(one, other, rtol=1e-4, atol=1e-5)


# Layers as functions of arrays


class Unknown(Exception):
    """A layer that does not compute in NumPy."""


def as_function(module: nn.Module, parts: list) -> Callable:
    """A known layer in NumPy, or a module's own `forward` on its layers. Raises Unknown.

    Appends the module and its layers to `parts`, each with its mode.
    """
    kind = type(module)
    parts += [module, module.training]
    if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
        raise Unknown(f"{kind.__name__} with hooks or a forward of its own")
    if kind in LAYERS:
        return LAYERS[kind](module)
    if kind.forward is nn.Sequential.forward:
        return in_sequence([as_function(layer, parts) for layer in module])
    if kind is nn.ModuleList:
        return [as_function(layer, parts) for layer in module]
    if kind.__module__.startswith("torch."):
        raise Unknown(kind.__name__)
    # An object of the same class: arrays replace its tensors, and functions its layers
    twin = object.__new__(kind)
    own = {name: value for name, value in vars(module).items() if name not in INTERNAL}
    for name, tensor in (module._parameters | module._buffers).items():
        own[name] = tensor if tensor is None else array_of(tensor)
    for name, layer in module._modules.items():
        own[name] = layer if layer is None else as_function(layer, parts)
    vars(twin).update(own)
    return twin.forward


def array_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy(force=True)  # on the CPU, it shares the memory


def in_sequence(layers: list[Callable]) -> Callable:
    def forward(x):
        for layer in layers:
            x = layer(x)
        return x

    return forward


def linear(layer: nn.Linear) -> Callable:
    weight = layer.weight.detach()
    if isinstance(layer, ScaledLinear):
        weight = weight / layer.scale
    weight = array_of(weight).T
    bias = 0 if layer.bias is None else array_of(layer.bias)

    def forward(x: np.ndarray) -> np.ndarray:
        rows = x if x.ndim == 2 else x.reshape(-1, x.shape[-1])  # one product is faster than many
        rows = rows.dot(weight)
        rows += bias
        return rows if x.ndim == 2 else rows.reshape(*x.shape[:-1], -1)

    return forward


def relu(_: nn.ReLU) -> Callable:
    zero = np.zeros((), np.float32)  # an array: the number 0 would be converted at each call
    return lambda x: np.maximum(x, zero)


def layer_norm(layer: nn.LayerNorm) -> Callable:
    axes = tuple(range(-len(layer.normalized_shape), 0))
    weight = 1 if layer.weight is None else array_of(layer.weight)
    bias = 0 if layer.bias is None else array_of(layer.bias)

    def forward(x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(axes, keepdims=True)
        variance = np.square(centred).mean(axes, keepdims=True)
        return centred / np.sqrt(variance + layer.eps) * weight + bias

    return forward


def step_weights(layer: nn.LSTM | nn.GRU) -> list[list[np.ndarray]]:
    """For each layer w_ih, w_hh, b_ih and b_hh, transposed. Raises Unknown."""
    if layer.batch_first or layer.bidirectional or layer.dropout or not layer.bias:
        raise Unknown("a recurrent layer with options")
    if layer.proj_size:
        raise Unknown("a recurrent layer with projections")
    return [[array_of(part).T for part in parts] for parts in layer.all_weights]


def lstm(layer: nn.LSTM) -> Callable:
    weights = step_weights(layer)

    def forward(x: np.ndarray, hidden: tuple | None = None) -> tuple[np.ndarray, tuple]:
        if hidden is None:
            zeros = np.zeros((len(weights), x.shape[1], layer.hidden_size), x.dtype)
            hidden = (zeros, zeros)
        h, c = map(np.copy, hidden)  # [num_layers, rows, hidden_size]
        outputs = []
        for output in x:
            for number, parts in enumerate(weights):
                output, c[number] = lstm_step(output, h[number], c[number], *parts)
                h[number] = output
            outputs.append(output)
        return np.array(outputs), (h, c)

    return forward


def gru(layer: nn.GRU) -> Callable:
    weights = step_weights(layer)

    def forward(x: np.ndarray, hidden: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        if hidden is None:
            hidden = np.zeros((len(weights), x.shape[1], layer.hidden_size), x.dtype)
        h = hidden.copy()  # [num_layers, rows, hidden_size]
        outputs = []
        for output in x:
            for number, parts in enumerate(weights):
                output = gru_step(output, h[number], *parts)
                h[number] = output
            outputs.append(output)
        return np.array(outputs), h

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


def gru_step(x, h, w_ih, w_hh, b_ih, b_hh) -> np.ndarray:
    of_x = x @ w_ih + b_ih
    of_h = h @ w_hh + b_hh
    size = h.shape[-1]
    gates = sigmoid(of_x[:, : 2 * size] + of_h[:, : 2 * size])  # reset and update gate
    new = np.tanh(of_x[:, 2 * size :] + gates[:, :size] * of_h[:, 2 * size :])
    return new + gates[:, size:] * (h - new)


LAYERS = {
    nn.Linear: linear,
    ScaledLinear: linear,
    nn.ReLU: relu,
    nn.LayerNorm: layer_norm,
    nn.LSTM: lstm,
    nn.GRU: gru,
    nn.Identity: lambda _: lambda x: x,
}

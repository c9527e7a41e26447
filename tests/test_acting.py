"""`acting(network)` answers like the network itself, whatever network the user has written."""

import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations

from cleanmarl.training import acting
from tests.helpers import MODULES, SCRIPTS, every_script, properties, seeds, small_args

# PyTorch tells which of its implementations it uses
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")

SIZES = SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These networks are small: a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", autouse=True)
def any_network():
    """Networks of any kind: test_learned.py looks at those that mix the steps of a batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["cleanmarl.training.acting"], "refuse_mixing", lambda *_: None)
        yield


def set_weights(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw random weights for all layers, also for those that begin at 0."""
    stream = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=stream) / 2)
    return network


def agent_of(script: str, **options) -> nn.Module:
    return set_weights(MODULES[script].AgentNetwork(small_args(script, **options), SIZES))


def rows(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def in_pytorch(network: nn.Module, *inputs):
    """What the network itself answers, in arrays."""
    with torch.no_grad():
        return each(network(*each(inputs, torch.from_numpy)), torch.Tensor.numpy)


def each(value, function):
    """Apply a function to an array or tensor, or to each one in a tuple of tuples."""
    if isinstance(value, tuple):
        return tuple(each(part, function) for part in value)
    return None if value is None else function(value)


def assert_equal(answer, expected):
    if isinstance(expected, tuple):
        assert isinstance(answer, tuple)
        assert len(answer) == len(expected)
        for one, other in zip(answer, expected, strict=True):
            assert_equal(one, other)
    else:
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5, strict=True)


def assert_acts_like_itself(network: nn.Module, *inputs: np.ndarray):
    """Compare both ways, for several inputs, which must not change."""
    itself = deepcopy(network)  # some networks change themselves
    values = acting(network)
    for observed in inputs:
        expected = in_pytorch(itself, observed.copy())
        before = observed.copy()
        assert_equal(values(observed), expected)
        np.testing.assert_array_equal(observed, before)


def assert_acts_like_itself_over_time(network: nn.Module, *inputs: np.ndarray):
    """Compare both ways, each with its own hidden state."""
    itself = deepcopy(network)
    values = acting(network)
    hidden = expected_hidden = None
    for observed in inputs:
        expected, expected_hidden = in_pytorch(itself, observed, expected_hidden)
        before = (observed.copy(), deepcopy(hidden))
        answer, next_hidden = values(observed, hidden)
        assert_equal((answer, next_hidden), (expected, expected_hidden))
        np.testing.assert_equal((observed, hidden), before)
        hidden = next_hidden


# Networks of the scripts


@every_script
def test_the_agents_of_the_scripts_act_like_their_networks(script):
    if script == "qmix_lstm":
        agent = agent_of(script)
        assert_acts_like_itself_over_time(agent, *rows(6, 1, 2, 8))
    else:
        assert_acts_like_itself(agent_of(script), *rows(3, 2, 5), rows(4, 2, 5))


@properties
@given(st.integers(0, 3), st.lists(st.integers(1, 4), max_size=3))
def test_rows_may_have_any_leading_dimensions(num_layers, shape):
    assert_acts_like_itself(agent_of("qmix", num_layers=num_layers), rows(*shape, 5))


@properties
@given(st.sampled_from(["lstm", "gru"]), st.integers(1, 3), st.integers(1, 9), st.integers(1, 4))
def test_a_recurrent_agent_acts_the_same_in_one_call_and_step_by_step(rnn, layers, agents, steps):
    agent = agent_of("qmix_lstm", rnn=rnn, num_layers=layers)
    inputs = rows(steps, agents, 8)
    at_once, hidden_at_once = acting(agent)(inputs, None)
    assert_equal((at_once, hidden_at_once), in_pytorch(agent, inputs))
    hidden = None
    for step, expected in zip(inputs, at_once, strict=True):
        values, hidden = acting(agent)(step[None], hidden)
        np.testing.assert_allclose(values[0], expected, rtol=1e-4, atol=1e-5)


KNOWN = [(script, {}) for script in SCRIPTS]
KNOWN += [("qmix_lstm", {"rnn": rnn, "num_layers": 2}) for rnn in ("lstm", "gru")]


@pytest.mark.parametrize(("script", "options"), KNOWN, ids=str)
def test_after_the_first_call_known_layers_act_without_pytorch(script, options, monkeypatch):
    agent = agent_of(script, **options)
    inputs = [rows(1, 2, 8), None] if script == "qmix_lstm" else [rows(2, 5)]
    acting(agent)(*inputs)
    expected = in_pytorch(agent, *inputs)
    monkeypatch.setattr(nn.Module, "__call__", lambda *_: pytest.fail("called PyTorch"))
    assert_equal(acting(agent)(*inputs), expected)


# Networks of all kinds


class Residual(nn.Module):
    def __init__(self, size, inner, inner_size):
        super().__init__()
        self.layers = nn.Sequential(*inner, nn.Linear(inner_size, size))

    def forward(self, x):
        return x + self.layers(x)


class Several(nn.Module):
    """Layers in a list, and a layer that is not there."""

    def __init__(self, size):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(size, size, bias=number > 0) for number in range(3))
        self.none = None
        self.register_module("norm", None)

    def forward(self, x):
        for head in self.heads:
            x = head(x)
        return x if self.norm is None else self.norm(x)


class Scaled(nn.Module):
    """Parameters and buffers that are in no layer, and numbers."""

    def __init__(self, size):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))
        self.single = nn.Parameter(torch.ones(()))
        self.register_buffer("shift", torch.arange(size) / 7)
        self.register_buffer("nothing", None)
        self.twice = 2

    def forward(self, x):
        return self.twice * x * self.scale + self.shift * self.single


class Dueling(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.advantage = nn.Linear(size, size)
        self.value = nn.Linear(size, 1)

    def forward(self, x):
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(-1, keepdim=True)


class DuelingAsInNumpy(Dueling):
    """It works for arrays as well."""

    def forward(self, x):
        advantage = self.advantage(x)
        return self.value(x) + advantage - advantage.mean(-1)[..., None]


class Doubled(nn.Linear):
    """A layer that is made from a known one."""

    def forward(self, x):
        return 2 * super().forward(x)


class ByName(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.layers = nn.ModuleDict({"last": nn.Linear(size, size), "first": nn.ReLU()})

    def forward(self, x):
        return self.layers["last"](self.layers["first"](x))


class ReversedOrder(nn.Sequential):
    def forward(self, x):
        for layer in reversed(list(self)):
            x = layer(x)
        return x


class Counting(nn.Module):
    """A network that changes its buffers: the mean of what it has seen."""

    def __init__(self, size):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.reshape(-1, x.shape[-1]).mean(0)
        return x - self.mean


class Own(nn.Module):
    """A network that calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def deviation(x):
    return x / (1 + x.std(-1)[..., None])


def variance(x):
    return x / (1 + x.var(-1)[..., None])


def below_the_largest(x):
    largest, _ = x.max(-1)
    return x - largest[..., None]


def plus_transposed(x):
    return x + x.transpose(0, 1).reshape(x.shape)


def repeated(x):
    return x.reshape(-1, x.shape[-1]).repeat(2, 1).reshape(2, *x.shape)[1]


def in_order(x):
    return x.sort(-1)[0]


def in_place(x):
    x += 1
    x *= 2
    return x


# NumPy accepts all of these, at least for some shapes, and answers something else
DIFFERENT = [deviation, variance, below_the_largest, plus_transposed, repeated, in_order, in_place]
ONLY_PYTORCH = [torch.tanh, F.gelu, lambda x: x.unsqueeze(0).squeeze(0), lambda x: x.clamp(min=0)]
BOTH = [lambda x: x.reshape(x.shape), lambda x: x[..., ::1] * 2, abs, lambda x: x.clip(-1, 1)]


def with_hook(size):
    layer = nn.Linear(size, size)
    layer.register_forward_hook(lambda module, inputs, output: 3 * output)
    return layer


def with_early_hook(size):
    layer = nn.ReLU()
    layer.register_forward_pre_hook(lambda module, inputs: (-inputs[0],))
    return layer


def with_own_forward(size):
    layer = nn.Linear(size, size)
    layer.forward = lambda x: x[..., :size] * 2
    return layer


SAME_SIZE = [
    lambda size: nn.ReLU(),
    lambda size: nn.Tanh(),
    lambda size: nn.Identity(),
    lambda size: nn.Dropout(),
    lambda size: nn.LayerNorm(size),
    lambda size: nn.LayerNorm(size, elementwise_affine=False),
    lambda size: nn.LayerNorm(size, bias=False, eps=0.1),
    lambda size: nn.Sequential(),
    lambda size: nn.Linear(size, size, bias=False),
    lambda size: parametrizations.spectral_norm(nn.Linear(size, size)),
    lambda size: parametrizations.weight_norm(nn.Linear(size, size)),
    lambda size: ReversedOrder(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size)),
    lambda size: Doubled(size, size),
    with_hook,
    with_early_hook,
    with_own_forward,
    ByName,
    Several,
    Scaled,
    Dueling,
    DuelingAsInNumpy,
    Counting,
]
SAME_SIZE += [lambda size, f=f: Own(f) for f in (*DIFFERENT, *ONLY_PYTORCH, *BOTH)]


@st.composite
def layers(draw, size: int, depth: int = 0) -> tuple[list[nn.Module], int]:
    """Layers for rows of a size, and the size of what they return."""
    chosen = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["linear", "same size", "same size", "residual", "nested"]))
        if kind == "linear":
            wanted = draw(st.integers(1, 6))
            chosen.append(nn.Linear(size, wanted, bias=draw(st.booleans())))
            size = wanted
        elif kind == "same size" or depth == 2:
            chosen.append(draw(st.sampled_from(SAME_SIZE))(size))
        else:
            inner, inner_size = draw(layers(size, depth + 1))
            if kind == "residual":
                chosen.append(Residual(size, inner, inner_size))
            else:
                chosen.append(nn.Sequential(*inner))
                size = inner_size
    return chosen, size


@st.composite
def networks(draw) -> nn.Module:
    """Networks for rows of 5 numbers."""
    chosen, _ = draw(layers(5))
    return set_weights(nn.Sequential(*chosen), draw(seeds)).eval()


SHAPES = st.lists(st.sampled_from([(2, 5), (3, 5), (5, 5), (1, 2, 5), (4, 2, 5)]), max_size=4)


@settings(properties, max_examples=200)
@given(networks(), SHAPES)
def test_any_network_acts_like_itself(network, shapes):
    inputs = [rows(*shape, seed=number) for number, shape in enumerate([(2, 5), *shapes])]
    assert_acts_like_itself(network, *inputs)


@pytest.mark.parametrize("forward", DIFFERENT)
def test_where_numpy_differs_the_answer_is_pytorchs(forward):
    network = nn.Sequential(Own(forward), nn.Linear(5, 3))
    for shape in ((2, 5), (5, 5), (3, 2, 5)):
        assert_acts_like_itself(set_weights(network), *rows(2, *shape))


@pytest.mark.parametrize("forward", DIFFERENT)
def test_a_last_layer_of_zeros_hides_no_difference(forward):
    network = nn.Sequential(nn.Linear(5, 5), Own(forward), nn.Linear(5, 3))
    nn.init.zeros_(network[-1].weight)
    acting(network)(rows(2, 5))
    assert_acts_like_itself(set_weights(network), rows(2, 5))


@pytest.mark.parametrize("size", [64, 512])
def test_a_small_difference_of_numpy_is_a_difference(size):
    assert_acts_like_itself(Own(lambda x: x / x.std(-1)[..., None]), rows(2, size))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Tanh()])
def test_reversed_and_read_only_arrays_can_be_inputs(layer):
    network = set_weights(nn.Sequential(nn.Linear(5, 5), layer))
    inputs = rows(2, 5)
    expected = in_pytorch(network, inputs)
    inputs.flags.writeable = False
    assert_equal(acting(network)(inputs), expected)
    assert_equal(acting(network)(inputs[::-1]), expected[::-1])


# Recurrent networks


class Recurrent(nn.Module):
    def __init__(self, rnn, outputs, before=None):
        super().__init__()
        self.before = before or nn.Linear(4, 6)
        self.rnn = rnn
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(outputs, 3))

    def forward(self, inputs, hidden=None):
        outputs, hidden = self.rnn(self.before(inputs), hidden)
        return self.head(outputs), hidden


class Elman(nn.Module):
    """A cell and a loop over time, in PyTorch or in what NumPy knows as well."""

    def __init__(self, size, in_numpy):
        super().__init__()
        self.of_input = nn.Linear(size, 5)
        self.of_hidden = nn.Linear(5, 5, bias=False)
        self.in_numpy = in_numpy

    def forward(self, inputs, hidden=None):
        outputs = []
        for x in self.of_input(inputs):
            if hidden is not None:
                x = x + self.of_hidden(hidden)
            hidden = x / (1 + abs(x))
            outputs.append(hidden[None])
        if self.in_numpy and isinstance(inputs, np.ndarray):
            return np.concatenate(outputs), hidden
        return torch.cat(outputs), hidden


class Stack(nn.Module):
    """Two recurrent layers, the hidden states in a tuple of tuples."""

    def __init__(self, size):
        super().__init__()
        self.first = nn.LSTM(size, 5)
        self.second = nn.GRU(5, 5)

    def forward(self, inputs, hidden=None):
        of_first, of_second = (None, None) if hidden is None else hidden
        outputs, of_first = self.first(inputs, of_first)
        outputs, of_second = self.second(outputs, of_second)
        return outputs, (of_first, of_second)


@st.composite
def recurrent_layers(draw) -> nn.Module:
    """A recurrent layer for rows of 6 numbers, and the size of what it returns."""
    options = {"num_layers": draw(st.integers(1, 3))}
    for name in ("bias", "batch_first", "bidirectional"):
        options[name] = draw(st.sampled_from([name == "bias"] * 3 + [name != "bias"]))
    if options["num_layers"] > 1:
        options["dropout"] = draw(st.sampled_from([0, 0, 0.5]))
    kind = draw(st.sampled_from([nn.LSTM, nn.LSTM, nn.GRU, nn.GRU, nn.RNN]))
    size = 5
    if kind is nn.LSTM and draw(st.booleans()):
        options["proj_size"] = size = 2
    return kind(6, 5, **options), size * (1 + options["bidirectional"])


OWN_RECURRENT = [lambda: (Elman(6, True), 5), lambda: (Elman(6, False), 5), lambda: (Stack(6), 5)]


@settings(properties, max_examples=200)
@given(
    recurrent_layers() | st.sampled_from(OWN_RECURRENT).map(lambda make: make()),
    st.sampled_from(SAME_SIZE),
    st.lists(st.integers(1, 3), min_size=1, max_size=4),
    st.integers(1, 3),
    seeds,
)
def test_any_recurrent_network_acts_like_itself_over_time(layer, other, steps, agents, seed):
    before = nn.Sequential(nn.Linear(4, 6), other(6))
    network = set_weights(Recurrent(*layer, before), seed).eval()
    if getattr(layer[0], "batch_first", False):
        inputs = [rows(agents, number, 4, seed=number) for number in steps]
    else:
        inputs = [rows(number, agents, 4, seed=number) for number in steps]
    assert_acts_like_itself_over_time(network, *inputs)


# Weights, precisions and structures that change


def test_after_a_step_of_the_optimizer_a_new_function_has_the_new_weights():
    network = agent_of("qmix")
    before = acting(network)(rows(2, 5))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    network(torch.from_numpy(rows(9, 5))).square().mean().backward()
    optimizer.step()
    assert np.abs(acting(network)(rows(2, 5)) - before).max() > 0.01
    assert_acts_like_itself(network, rows(2, 5))


def test_loaded_weights_are_the_ones_that_act():
    network, other = agent_of("qmix"), set_weights(agent_of("qmix"), seed=1)
    acting(network)(rows(2, 5))
    network.load_state_dict(other.state_dict())
    assert_equal(acting(network)(rows(2, 5)), in_pytorch(other, rows(2, 5)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("script", ["qmix", "qmix_lstm"])
def test_a_network_of_another_precision_answers_in_float32(script, dtype):
    agent = agent_of(script).to(dtype)
    if script == "qmix_lstm":
        answer, hidden = acting(agent)(rows(1, 2, 8), None)
        answer, _ = acting(agent)(rows(1, 2, 8), hidden)
        with torch.no_grad():
            inputs = torch.from_numpy(rows(1, 2, 8)).to(dtype)
            expected, _ = agent(inputs, agent(inputs)[1])
    else:
        answer = acting(agent)(rows(2, 5))
        with torch.no_grad():
            expected = agent(torch.from_numpy(rows(2, 5)).to(dtype))
    assert answer.dtype == np.float32
    tolerance = 1e-5 if dtype == torch.float64 else 0.02
    np.testing.assert_allclose(answer, expected.float(), rtol=tolerance, atol=tolerance)


CHANGED = [nn.Tanh(), nn.Sequential(), Doubled(8, 8), *map(Own, DIFFERENT), *map(Own, BOTH)]


@pytest.mark.parametrize("layer", CHANGED)
def test_a_network_with_a_replaced_layer_acts_like_itself(layer):
    agent = agent_of("qmix")
    acting(agent)(rows(2, 5))
    agent.layers[1] = layer
    assert_acts_like_itself(set_weights(agent), rows(2, 5))


def test_a_network_with_a_new_hook_acts_like_itself():
    agent = agent_of("qmix")
    acting(agent)(rows(2, 5))
    agent.layers[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    assert_acts_like_itself(agent, rows(2, 5))


def test_buffers_that_acting_changes_are_those_of_the_network():
    network = nn.Sequential(Counting(5), nn.Linear(5, 3))
    itself = deepcopy(network)
    for inputs in rows(3, 2, 5):
        assert_equal(acting(network)(inputs), in_pytorch(itself, inputs))


def test_training_and_evaluation_mode_are_those_of_the_network():
    class Moody(nn.Linear):
        def forward(self, x):
            return x if self.training else x / (1 + x.std(-1)[..., None])

    network = nn.Sequential(Moody(5, 5))
    for mode in (True, False):
        network.train(mode)
        assert_acts_like_itself(network, rows(2, 5))

"""Whether what a script wants to learn is learned. If not, it says so in one line."""

import threading
from collections import deque

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import register_optimizer_step_post_hook

from cleanmarl.training.errors import Refused, warn
from cleanmarl.training.mixing import check_mixer, watch_targets

ENOUGH = 100  # updates after which every weight should have changed
EARLY = 50  # updates after which targets differ
STEPLESS = 100  # updates whose gradients may be accumulated before a step
STORED = ("obs", "state", "avail_actions", "actions", "reward", "terminated")
NO_STEP = "there is a loss, but no optimizer.step(): nothing is learned"


class GradientCheck:
    """Checks of the gradients at the first step of each optimizer, and of the weights at the end.

    Args:
        state: the parts of a run's checkpoint; "networks" and all optimizers are checked
        resumed: whether earlier sessions of the run may have made steps

    The first step of an optimizer raises Refused if one of its parameters has no gradient, or if
    a parameter with a gradient is in no optimizer. The next backward() raises Refused if gradients
    were not set to zero.
    """

    def __init__(self, state: dict, resumed: bool = False):
        self.state = state
        self.resumed = resumed
        self.networks: nn.Module = state["networks"]
        self.optimizers = [part for part in state.values() if isinstance(part, Optimizer)]
        self.num_steps = dict.fromkeys(self.optimizers, 0)
        self.watched: set[Optimizer] = set()
        tensors = tensors_of(self.networks)
        self.before = {name: one.detach().clone() for name, one in tensors.items()}
        self.plain = plain_arrays(self.networks)
        self.has_loss = False  # whether a loss was logged
        self.called: set[nn.Module] = set()  # layers that were called before the first step
        self.mixed: tuple = ()  # what the mixer was called with
        self.thread = threading.get_ident()
        self.listening = register_module_forward_pre_hook(self.hear)
        self.told_of_stranger = False
        self.watching = register_optimizer_step_post_hook(self.warn_of_stranger)
        for optimizer in self.optimizers:
            optimizer.register_step_post_hook(self.count)  # LBFGS has no gradients before

    @property
    def no_step(self) -> bool:
        """Whether there are optimizers, but none has made a step."""
        return bool(self.optimizers) and not (self.resumed or any(self.num_steps.values()))

    def hear(self, layer: nn.Module, inputs: tuple):
        """Remember a layer that is called, perhaps one that PyTorch does not find in `networks`."""
        if threading.get_ident() == self.thread:
            self.called.add(layer)
            if layer is getattr(self.networks, "mixer", None):
                self.mixed = inputs

    def warn_of_stranger(self, optimizer: Optimizer, *_):
        """Warn once of an optimizer that is not in `state`."""
        is_strange = optimizer not in self.num_steps and threading.get_ident() == self.thread
        if is_strange and not self.told_of_stranger:
            self.told_of_stranger = True
            kind = type(optimizer).__name__
            what = f"`state` lacks an optimizer ({kind}) that makes steps"
            warn(f"{what}: in a resumed run, it begins anew")

    def stop(self):
        """Listen no longer."""
        self.listening.remove()
        self.watching.remove()

    def look(self, scalars: dict[str, float]):
        """Look at metrics with a loss. Raises Refused if many updates have made no step."""
        if not self.has_loss:
            self.has_loss = True
            self.warn_of_state()
        if self.no_step and scalars.get("train/num_updates", STEPLESS) >= STEPLESS:
            raise Refused(f"{NO_STEP} (after {STEPLESS} updates)")

    def warn_of_state(self):
        """Warn if `state` lacks what learns: then it does not resume alike."""
        if not self.optimizers:
            warn("`state` has no optimizer: edits are not checked, and a resumed run has a new one")
        scheduled = any(hasattr(one.step, "_wrapped_by_lr_sched") for one in self.optimizers)
        if scheduled and not any(isinstance(part, LRScheduler) for part in self.state.values()):
            warn("`state` has no learning rate scheduler: in a resumed run, it begins anew")

    def count(self, optimizer: Optimizer, *_):
        self.num_steps[optimizer] += 1
        if self.num_steps[optimizer] == 1:
            self.check(optimizer)
        mixer = getattr(self.networks, "mixer", None)
        if self.num_steps[optimizer] == EARLY and isinstance(mixer, nn.Module):
            watch_targets(mixer)
        if optimizer not in self.watched:
            self.watch_zero_grad(optimizer)

    def watch_zero_grad(self, optimizer: Optimizer):
        """Let the next backward() raise Refused if the gradients of this step are still there."""

        def check(_):
            handle.remove()
            if parameter.grad is not None and parameter.grad.any():
                wanted = "call optimizer.zero_grad() before loss.backward()"
                raise Refused(f"the gradients of all updates are added up: {wanted}")

        for parameter in parameters_of(optimizer):
            if parameter.grad is not None and parameter.grad.any():
                handle = parameter.register_hook(check)
                self.watched.add(optimizer)
                return

    def check(self, optimizer: Optimizer):
        """Raise Refused if the gradients and the optimizers do not fit together."""
        learned = parameters_of(optimizer)
        idle, frozen = [], []
        for name, parameter in self.networks.named_parameters():
            if parameter not in learned or parameter.grad is not None:
                continue
            if parameter.requires_grad:
                idle.append(name)
            elif not name.startswith("target_"):
                frozen.append(name)
        forgotten = self.forgotten()
        if len(idle) == len(learned):
            wanted = "call loss.backward() before optimizer.step(), and no zero_grad() in between"
            raise Refused(f"no parameter has a gradient at the optimizer's first step: {wanted}")
        if idle:
            wanted = "use them in forward(), or leave them out of learned()"
            raise Refused(f"the loss does not depend on {', '.join(idle)}: {wanted}")
        if frozen:
            warn(f"an optimizer has {', '.join(frozen)}, but requires_grad is False: not learned")
        for name, target in targets_of(self.networks).items():
            if any(one.requires_grad and one in learned for one in target.parameters()):
                raise Refused(f"{name} is no copy, but is learned itself: make it by deepcopy")
        if forgotten:
            wanted = "add them to learned(), or their optimizer to the state of the run"
            raise Refused(f"no optimizer learns {', '.join(forgotten)}: {wanted}")
        if hidden := hidden_weights(self.networks):
            wanted = "PyTorch finds weights only in nn.Module, nn.ModuleList and nn.Parameter"
            raise Refused(f"no optimizer learns {', '.join(hidden)}: {wanted}")
        self.warn_of_strangers()
        self.warn_of_plain_tensors()
        self.warn_of_mode()
        self.look_at_mixer()

    def look_at_mixer(self):
        """At the first step, and at the end: training may change whether a mixer is monotonic."""
        if self.mixed:
            self.mixed = check_mixer(self.networks.mixer, self.mixed)

    def forgotten(self) -> list[str]:
        """Parameters of the networks that have a gradient, but are in no optimizer."""
        in_any = set().union(*map(parameters_of, self.optimizers))
        named = self.networks.named_parameters()
        return [name for name, one in named if one.grad is not None and one not in in_any]

    def warn_of_strangers(self):
        """Warn of layers outside of the networks that have a gradient, but are in no optimizer."""
        self.listening.remove()
        known = set().union(self.networks.parameters(), *map(parameters_of, self.optimizers))
        found = {}
        for layer in self.called:
            for name, one in layer.named_parameters(type(layer).__name__):
                if one.grad is not None and one not in known:
                    found[name] = one
        self.called.clear()
        if found:
            wanted = "hold them in an nn.Module of the networks, or add their optimizer to `state`"
            warn(f"no optimizer learns {', '.join(found)}: {wanted}")

    def warn_of_plain_tensors(self):
        """Warn of tensors that are neither weights nor buffers: they are not saved."""
        for path, module in self.networks.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    place = f"{path}.{name}".removeprefix(".")
                    warn(f"{place} is a plain tensor, which is not saved: use register_buffer")
                    return

    def warn_of_mode(self):
        """Warn if agents or targets, which play evaluations, are in train mode and it matters."""
        for layer in getattr(self.networks, "agent", nn.Module()).modules():
            if layer.training and isinstance(layer, _BatchNorm):
                kind = type(layer).__name__
                warn(f"a {kind} normalises a step's few agents when they act: use nn.LayerNorm")
                break
        for name, target in targets_of(self.networks).items():
            for layer in target.modules():
                if layer.training and isinstance(layer, _DropoutNd | _BatchNorm):
                    kind = type(layer).__name__
                    warn(f"{name} has a {kind} in train mode, in evaluations, too: call eval()")
                    return

    @property
    def no_update(self) -> bool:
        """Whether the script counts its updates, and has made none."""
        return getattr(self.state.get("progress"), "num_updates", 1) == 0

    def warn_at_end(self, num_episodes: int, batch_size: float):
        """Warn of what has not changed in a training that has stored so many episodes."""
        if num_episodes and self.no_update:
            found = f"{num_episodes} episodes are stored, but"
            if num_episodes < batch_size:
                found = f"{num_episodes} episodes are stored, fewer than --batch-size {batch_size}:"
            warn(f"{found} no update was made")
        if self.no_step:
            if self.has_loss:
                warn(NO_STEP)
            return
        most = max(self.num_steps.values(), default=0)
        if most and (forgotten := self.forgotten()):
            warn(f"no optimizer learns {', '.join(forgotten)}: was it replaced?")
        if most < ENOUGH:
            return
        for number, (optimizer, num_steps) in enumerate(self.num_steps.items(), 1):
            if num_steps == 0:
                warn(f"optimizer {number} of {len(self.num_steps)} has made no step")
            learned = parameters_of(optimizer)
            same = []
            for name, one in self.networks.named_parameters():
                if one in learned and one.requires_grad and self.is_same(name, one):
                    same.append(name)
            if same and num_steps >= ENOUGH:
                warn(f"{', '.join(same)} did not change in {num_steps} updates")
        for name, target in targets_of(self.networks).items():
            named = dict(target.named_parameters())
            if named and all(self.is_same(f"{name}.{part}", one) for part, one in named.items()):
                warn(f"the {name} did not change in {most} updates")
        self.warn_of_buffers()
        self.warn_of_arrays()
        self.look_at_mixer()

    def warn_of_buffers(self):
        """Warn of buffers, such as running means, which target networks do not follow."""
        now = tensors_of(self.networks)
        for name, buffer in self.networks.named_buffers():
            target = f"target_{name}"
            counts = name.endswith("num_batches_tracked")  # evaluations do not use it
            changed = target in now and not (counts or self.is_same(name, buffer))
            if changed and self.is_same(target, now[target]) and not buffer.equal(now[target]):
                wanted = "copy it in update_targets, if evaluations use it"
                warn(f"{name} has changed, but {target} has not: {wanted}")

    def warn_of_arrays(self):
        """Warn of arrays of NumPy in networks that have changed, such as running means."""
        for name, array in plain_arrays(self.networks).items():
            if not np.array_equal(array, self.plain.get(name)):
                wanted = "make it a buffer, which is saved, and copy it in update_targets"
                warn(f"{name} has changed, but is an array of NumPy: {wanted}")
                return

    def is_same(self, name: str, tensor: torch.Tensor) -> bool:
        """Whether a tensor of the networks is as at the start, if it is still there."""
        before = self.before.get(name)
        return before is not None and torch.equal(tensor, before)


def tensors_of(networks: nn.Module) -> dict[str, torch.Tensor]:
    """name -> parameter or buffer"""
    return dict(networks.named_parameters()) | dict(networks.named_buffers())


def targets_of(networks: nn.Module) -> dict[str, nn.Module]:
    """name -> network whose name begins with target_"""
    children = networks._modules.items()  # named_children() leaves out what has two names
    return {name: one for name, one in children if name.startswith("target_")}


def parameters_of(optimizer: Optimizer) -> set[nn.Parameter]:
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def plain_arrays(networks: nn.Module) -> dict[str, np.ndarray]:
    """Copies of the arrays of NumPy in networks, and in the objects that they hold."""
    found = {}
    for path, module in networks.named_modules():
        for name, value in vars(module).items():
            held = {name: value}
            is_env = hasattr(value, "reset")  # its arrays may change
            if hasattr(value, "__dict__") and not (is_env or isinstance(value, nn.Module | type)):
                held |= {f"{name}.{part}": one for part, one in vars(value).items()}
            for part, one in held.items():
                if isinstance(one, np.ndarray):
                    found[f"{path}.{part}".removeprefix(".")] = one.copy()
    return found


def hidden_weights(networks: nn.Module) -> list[str]:
    """Attributes whose weights PyTorch does not find: layers in a list, tensors with gradients."""
    known = set(networks.parameters())
    found = []
    for path, module in networks.named_modules():
        for name, value in vars(module).items():
            if any(one not in known for one in weights_in(value)):
                found.append(f"{path}.{name}".removeprefix("."))
    return found


def weights_in(value) -> list[torch.Tensor]:
    """The tensors with gradients that are or are in a module, a tensor, or a container of these."""
    if isinstance(value, nn.Module):
        return [one for one in value.parameters() if one.requires_grad]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for part in value for one in weights_in(part)]
    is_weight = isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad
    return [value] if is_weight else []


def make_read_only(episodes: deque):
    """Protect the newest episodes: what changes a stored one would change it again."""
    for episode in reversed(episodes):
        stored = [episode.get(name) for name in STORED]
        arrays = [array for array in stored if isinstance(array, np.ndarray)]
        if not any(array.flags.writeable for array in arrays):
            return
        for array in arrays:
            array.setflags(write=False)

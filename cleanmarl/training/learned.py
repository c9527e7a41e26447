"""Whether what a script wants to learn is learned. If not, it says so in one line."""

import torch
from torch import nn

from cleanmarl.training.errors import Refused, warn

ENOUGH = 100  # updates after which every weight should have changed


class GradientCheck:
    """Checks of the gradients at the first step of each optimizer, and of the weights at the end.

    Args:
        networks: all networks of a script
        optimizers: all optimizers of a script

    The first step of an optimizer raises Refused if one of its parameters has no gradient, or if
    a parameter with a gradient is in no optimizer. The next backward() raises Refused if gradients
    were not set to zero.
    """

    def __init__(self, networks: nn.Module, optimizers: list[torch.optim.Optimizer]):
        self.networks = networks
        self.optimizers = optimizers
        self.num_steps = dict.fromkeys(optimizers, 0)
        self.watched: set[torch.optim.Optimizer] = set()
        self.before = {name: one.detach().clone() for name, one in networks.named_parameters()}
        for optimizer in optimizers:
            optimizer.register_step_post_hook(self.count)  # LBFGS has no gradients before

    @property
    def no_step(self) -> bool:
        """Whether there are optimizers, but none has made a step."""
        return bool(self.optimizers) and not any(self.num_steps.values())

    def count(self, optimizer: torch.optim.Optimizer, *_):
        self.num_steps[optimizer] += 1
        if self.num_steps[optimizer] == 1:
            self.check(optimizer)
        if optimizer not in self.watched:
            self.watch_zero_grad(optimizer)

    def watch_zero_grad(self, optimizer: torch.optim.Optimizer):
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

    def check(self, optimizer: torch.optim.Optimizer):
        """Raise Refused if the gradients and the optimizers do not fit together."""
        learned = parameters_of(optimizer)
        in_any = set().union(*map(parameters_of, self.optimizers))
        idle, forgotten = [], []
        for name, parameter in self.networks.named_parameters():
            if parameter in learned and parameter.requires_grad and parameter.grad is None:
                idle.append(name)
            if parameter not in in_any and parameter.grad is not None:
                forgotten.append(name)
        if len(idle) == len(learned):
            wanted = "call loss.backward() before optimizer.step(), and no zero_grad() in between"
            raise Refused(f"no parameter has a gradient at the optimizer's first step: {wanted}")
        if idle:
            wanted = "use them in forward(), or leave them out of learned()"
            raise Refused(f"the loss does not depend on {', '.join(idle)}: {wanted}")
        if forgotten:
            wanted = "add them to learned(), or their optimizer to the state of the run"
            raise Refused(f"no optimizer learns {', '.join(forgotten)}: {wanted}")
        if hidden := hidden_weights(self.networks):
            wanted = "PyTorch finds weights only in nn.Module, nn.ModuleList and nn.Parameter"
            raise Refused(f"no optimizer learns {', '.join(hidden)}: {wanted}")

    def warn_if_unchanged(self):
        """Print a warning if weights, or all targets, have not changed in many updates."""
        for optimizer, num_steps in self.num_steps.items():
            learned = parameters_of(optimizer)
            same = []
            for name, parameter in self.networks.named_parameters():
                learns = parameter in learned and parameter.requires_grad
                if learns and torch.equal(parameter, self.before[name]):
                    same.append(name)
            if same and num_steps >= ENOUGH:
                warn(f"{', '.join(same)} did not change in {num_steps} updates")
        most = max(self.num_steps.values(), default=0)
        named = self.networks.named_parameters()
        targets = [(name, one) for name, one in named if name.startswith("target_")]
        still = all(torch.equal(one, self.before[name]) for name, one in targets)
        if targets and still and most >= ENOUGH:
            warn(f"the target networks did not change in {most} updates")


def parameters_of(optimizer: torch.optim.Optimizer) -> set[nn.Parameter]:
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def hidden_weights(networks: nn.Module) -> list[str]:
    """Attributes whose weights PyTorch does not find: layers in a list, tensors with gradients."""
    known = set(networks.parameters())
    found = []
    for path, module in networks.named_modules():
        for name, value in vars(module).items():
            if any(one not in known for one in weights_in(value)) and not name.startswith("_"):
                found.append(f"{path}.{name}".removeprefix("."))
    return found


def weights_in(value) -> list[torch.Tensor]:
    """The tensors with gradients that are or are in a module, a tensor, or a container of these."""
    if isinstance(value, nn.Module):
        return list(value.parameters())
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for part in value for one in weights_in(part)]
    is_weight = isinstance(value, torch.Tensor) and value.is_leaf and value.requires_grad
    return [value] if is_weight else []

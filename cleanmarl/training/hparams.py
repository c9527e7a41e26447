"""The arguments of a run for TensorBoard's tab HPARAMS."""

import math
from dataclasses import asdict

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams

from cleanmarl.training.arguments import FREE, as_words, script_of

# What says nothing of the training itself
LEFT_OUT = FREE - {"total_timesteps", "device"}


def hyperparameters(args) -> Summary:
    """The script and its arguments, as the start of a session of the plugin.

    There is no summary of an experiment: TensorBoard would take the first run's for all runs, and
    so show only what all scripts have. Without one, it collects arguments and metrics of all runs.
    """
    values = {"script": script_of(type(args))}
    for name, value in asdict(args).items():
        if name not in LEFT_OUT:
            is_number = type(value) in (int, float) and math.isfinite(value)
            values[name] = value if is_number else as_words(value)
    _, start, _ = hparams(values, {})
    return start

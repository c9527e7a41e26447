"""What every training needs and no algorithm is.

`arguments.py` makes the command line, `run.py` run folders, curves and random numbers,
`checkpoint.py` files that are whole or absent, `initial.py` networks of another run, `results.py`
metrics, evaluations and GIFs, `acting.py` networks that act quickly, `scaling.py` the scale of what
they see and of eps, `learned.py` checks that edits are learned, `mixing.py` that a mixer mixes
agents only, `values.py` that Q_tot is possible, `exploring.py` that exploration has found
something, `memory.py` what a replay buffer takes, `sources.py` the user's files behind an
environment, `kept.py` networks of earlier steps, `stopping.py` Ctrl-C, `session.py` how a run was
made, `hparams.py` arguments in TensorBoard, `wnb.py` Weights & Biases, and `errors.py` messages of
one line.
"""

from cleanmarl.errors import Refused, RunFailed
from cleanmarl.training.acting import acting
from cleanmarl.training.arguments import (
    Between,
    Count,
    Fraction,
    Optimizer,
    Options,
    Rate,
    Seed,
    Units,
    alias,
    check,
    parse_args,
)
from cleanmarl.training.checkpoint import load_model
from cleanmarl.training.errors import (
    closing,
    one_line_errors,
    refuse_on_error,
    warn,
    warn_on_error,
)
from cleanmarl.training.initial import check_alike, init_from, optimizer_options, warn_about
from cleanmarl.training.results import (
    Progress,
    metrics_of,
    save_gif,
    success_of,
    worst_median_best,
    write_evaluation,
)
from cleanmarl.training.run import Run, random_stream
from cleanmarl.training.scaling import ScaledLinear, scale_eps, set_scales
from cleanmarl.training.stopping import stop_if_asked

__all__ = [
    "Between",
    "Count",
    "Fraction",
    "Optimizer",
    "Options",
    "Progress",
    "Rate",
    "Refused",
    "Run",
    "RunFailed",
    "ScaledLinear",
    "Seed",
    "Units",
    "acting",
    "alias",
    "check",
    "check_alike",
    "closing",
    "init_from",
    "load_model",
    "metrics_of",
    "one_line_errors",
    "optimizer_options",
    "parse_args",
    "random_stream",
    "refuse_on_error",
    "save_gif",
    "scale_eps",
    "set_scales",
    "stop_if_asked",
    "success_of",
    "warn",
    "warn_about",
    "warn_on_error",
    "worst_median_best",
    "write_evaluation",
]

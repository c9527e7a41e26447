"""What every training needs and no algorithm is.

`arguments.py` makes the command line, `run.py` run folders, curves and random numbers,
`checkpoint.py` files that are whole or absent, `results.py` metrics, evaluations and GIFs,
`acting.py` networks that act quickly, `learned.py` checks that edits are learned, and `errors.py`
messages of one line.
"""

from cleanmarl.training.acting import acting
from cleanmarl.training.arguments import (
    Between,
    Count,
    Fraction,
    Optimizer,
    Rate,
    Seed,
    Units,
    alias,
    check,
    parse_args,
)
from cleanmarl.training.checkpoint import load_model
from cleanmarl.training.errors import (
    Refused,
    RunFailed,
    one_line_errors,
    refuse_on_error,
    warn,
    warn_on_error,
)
from cleanmarl.training.results import (
    Progress,
    metrics_of,
    save_gif,
    success_of,
    worst_median_best,
    write_evaluation,
)
from cleanmarl.training.run import Run, random_stream

__all__ = [
    "Between",
    "Count",
    "Fraction",
    "Optimizer",
    "Progress",
    "Rate",
    "Refused",
    "Run",
    "RunFailed",
    "Seed",
    "Units",
    "acting",
    "alias",
    "check",
    "load_model",
    "metrics_of",
    "one_line_errors",
    "parse_args",
    "random_stream",
    "refuse_on_error",
    "save_gif",
    "success_of",
    "warn",
    "warn_on_error",
    "worst_median_best",
    "write_evaluation",
]

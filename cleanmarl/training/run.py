"""What every training run needs: its folder, curves, checkpoints, Ctrl-C.

A script uses it like this:

    with Run(args, env, state, buffer.episodes) as run:
        while progress.step < args.total_timesteps and not run.stopped:
            ...
            run.advance(progress.step)            # move the progress bar
            run.log(scalars)                      # a point of each curve
            run.save()                            # write checkpoint.pt and model.pt

Nothing here depends on the learning algorithm.
"""

import gc
import os
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cleanmarl.errors import EnvFault, Refused, RunFailed
from cleanmarl.training import errors, stopping
from cleanmarl.training.arguments import script_of, title_of
from cleanmarl.training.checkpoint import (
    FORMAT,
    check_episodes,
    check_state,
    load_checkpoint,
    load_state,
    pack,
    read_model,
    read_sessions,
    state_of,
    to_bytes,
    write_atomically,
    write_json,
    write_sealed,
)
from cleanmarl.training.errors import in_one_line, refuse_on_error, say, warn
from cleanmarl.training.exploring import ExplorationCheck
from cleanmarl.training.hparams import hyperparameters
from cleanmarl.training.initial import apply_changes, check_definitions
from cleanmarl.training.kept import name_of, steps_to_keep
from cleanmarl.training.learned import GradientCheck, make_read_only
from cleanmarl.training.memory import is_out_of_memory, out_of_memory
from cleanmarl.training.scaling import ScaleCheck
from cleanmarl.training.session import description, made_with, now, script_now
from cleanmarl.training.stopping import Stopped
from cleanmarl.training.values import ValueCheck
from cleanmarl.training.wnb import Wandb

# Shown beside the progress bar: the first of these that exists
SHOWN = {"eval/battle_won": "won", "eval/success": "success", "eval/ep_reward": "eval"}
BAR = "{percentage:3.0f}%|{bar:6}| {n_fmt}/{total_fmt} steps, {rate_noinv_fmt}, {remaining} left"


class Run:
    """One training: its folder, curves, progress bar and checkpoints.

    Args:
        args: the script's arguments; `Run` reads env_type, env_name, env_options, seed,
            total_timesteps, buffer_size, resume, save_model, keep_models, checkpoint_buffer,
            capture_video, use_wnb, wnb_project, wnb_entity. With `resume`, the run in that
            folder is resumed
        env: the environment, whose sizes and names are written to team.json
        state: name -> part of the checkpoint: an object with a state_dict, or a dataclass.
            The networks in "networks" are also saved in model.pt and best.pt
        episodes: the deque of the replay buffer; an episode is a dict of arrays
        folder: folder of a new run; default runs/<env_type>__<env_name>__<script>__<seed>__<time>

    Raises Refused if the folder cannot be used, if its checkpoint does not fit, or, at the first
    step of an optimizer in `state`, if a parameter of the networks is not learned.
    """

    def __init__(self, args, env, state: dict, episodes: deque, folder: Path | None = None):
        self.args = args
        self.episodes = episodes
        self.state = state
        self.stopped = 0  # otherwise the signal that asks the loop to end
        self.step = 0
        self.to_keep = steps_to_keep(args)
        self.seconds_before = 0.0  # training time before this process
        self.latest: dict[str, float] = {}  # value of each metric
        self.best_score: list[float] = []
        self.logged: list[tuple[dict, int]] = []  # since the last checkpoint, or at its step
        self.files: list[tuple] = []  # files of episodes: name, number of episodes, checksum
        self.number = 0  # number of the next file of episodes
        self.last_packed = None  # the last episode in these files
        self.unsaved = False
        self.sessions: list[dict] = []  # content of run.json
        self.changed: dict[str, list] = {}  # arguments that this session has changed
        with refuse_on_error():
            check_state(state)
            check_definitions(type(args))
            self.folder = self.open_folder(folder)
            self.keep_old = False  # whether checkpoint.pt is whole
            if args.resume:
                self.restore()
            write_json(self.folder / "args.json", asdict(args) | {"resume": ""})
            write_json(self.folder / "team.json", description(args, env))
            self.begin_session()
            self.shown_folder = self.folder  # as the user wrote it
            self.folder = self.folder.absolute()  # an environment may change the directory
            self.open_writer()
        self.gradients = GradientCheck(state, bool(args.resume))
        self.values = ValueCheck(args, self.episodes)
        self.scales = ScaleCheck(state["networks"], self.episodes)
        self.exploration = ExplorationCheck(args)

    def open_folder(self, folder: Path | None) -> Path:
        """Make a new folder or open the resumed one, and lock it for this process."""
        args = self.args
        title = title_of(args.env_name, args.env_options)
        parts = (args.env_type, title, script_of(type(args)), args.seed)
        name = "__".join(map(str, (*parts, time.strftime("%Y%m%d-%H%M%S"))))
        folder = Path(args.resume or folder or Path("runs", name))
        folder.parent.mkdir(parents=True, exist_ok=True)
        name, number = folder.name, 1
        while not args.resume:
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
                folder = folder.with_name(f"{name}-{number}")
        self.lock = FileLock(folder / "lock", timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise ValueError(f"another process is training in {folder}") from None
        return folder

    def restore(self):
        """Restore the last checkpoint. Raises ValueError if it does not fit."""
        args = self.args
        if (self.folder / "run.json").exists():
            self.sessions = read_sessions(self.folder)
        saved = load_checkpoint(self.folder, script_of(type(args)), args.checkpoint_buffer)
        for fault in saved["faults"]:
            warn(f"{fault} in {self.folder}, so the run is resumed from {saved['path'].name}")
        for name, part in self.state.items():
            try:
                load_state(part, saved[name])
            except Exception as error:
                reason = f"the {name} of {self.folder} do not fit this script or this environment"
                raise ValueError(f"{reason}: {in_one_line(error)[:300]}") from None
        self.changed = apply_changes(saved, args, self.state)
        for name, value in saved["run"].items():
            setattr(self, name, value)
        self.episodes.extend(saved["episodes"])
        if self.episodes:
            self.last_packed = self.episodes[-1]
        elif self.step:
            warn("the run is resumed with an empty replay buffer")
        self.keep_old = saved["path"].name == "checkpoint.pt"
        self.number = 1 + max([-1, *(int(file.stem) for file in self.packed_files())])

    def begin_session(self):
        """Add this session to run.json; `cleanmarl.watch` finds the script there."""
        session = made_with() | script_now(type(self.args)) | {"changed": self.changed}
        before = self.sessions[-1].get("script_sha256") if self.sessions else None
        if before and session["script_sha256"] not in (None, before):
            script = Path(session["script_file"]).name
            warn(f"{script} has changed since the run was trained with it")
        self.sessions.append(session | {"began": now(), "ended": None, "ending": None})
        write_json(self.folder / "run.json", self.sessions)

    def open_writer(self):
        """Continue the curves from the last checkpoint; points logged after it are hidden."""
        first = self.logged[0][1] if self.logged else self.step + 1
        errors.tell_of_curves()
        self.writer = SummaryWriter(str(self.folder), purge_step=first)
        self.writer.file_writer.add_summary(hyperparameters(self.args))
        for scalars, step in self.logged:
            self.add_to_curves(scalars, step)

    def __enter__(self):
        self.began = time.perf_counter() - self.seconds_before
        self.told_at = self.printed_at = 0.0
        on_terminal = sys.stderr.isatty()
        total = self.args.total_timesteps
        look = {"bar_format": BAR, "unit_scale": True, "unit": "", "initial": min(self.step, total)}
        self.bar = tqdm(total=total, disable=not on_terminal, **look)
        self.wandb = Wandb(self.args, self.folder)
        self.handlers = {}
        with suppress(ValueError):
            for number in (signal.SIGINT, signal.SIGTERM):
                self.handlers[number] = signal.signal(number, self.stop)
        gc.freeze()  # imported objects stay, so later collections can skip them
        self.gc_threshold = gc.get_threshold()
        gc.set_threshold(20_000)  # a training makes little garbage in cycles
        return self

    def stop(self, number: int, frame):
        """The first signal ends the loop after the current round, or within a long episode.

        A second ends it at once.
        """
        self.stopped = number
        stopping.ask_to_stop()
        signal.signal(number, signal.SIG_DFL)

    @property
    def seconds(self) -> float:
        """Training time of all sessions."""
        return time.perf_counter() - self.began

    def advance(self, step: int):
        """Set the current environment step, move the progress bar, and keep networks if due."""
        due = [one for one in self.to_keep if self.step < one <= step]
        if not self.step:
            check_episodes(self.episodes)
        self.step = step
        make_read_only(self.episodes)
        self.bar.update(min(step, self.args.total_timesteps) - self.bar.n)
        for one in due:
            with errors.warn_on_error(f"{name_of(one)} is not written", OSError):
                (self.folder / "models").mkdir(exist_ok=True)
                self.write_model(name_of(one))

    def log(self, scalars: dict[str, float]):
        """Add a point to each curve, at the current step.

        After an evaluation, save the networks as best.pt if they are better than all before.
        """
        scalars = {name: float(value) for name, value in scalars.items()}
        if "train/loss" in scalars:
            self.gradients.look(scalars)
            self.values.look(scalars.get("train/q_tot", 0.0))
            self.scales.look()
        self.exploration.look(scalars, self.step, learned=not self.gradients.no_update)
        evaluated = "eval/ep_reward" in scalars
        if "rollout/ep_reward" in scalars:
            scalars["charts/SPS"] = self.step / self.seconds  # environment steps
        if evaluated and "eval/success" in self.latest:
            scalars.setdefault("eval/success", 0.0)  # no episode has reported one
        self.latest |= scalars
        self.logged.append((scalars, self.step))
        with suppress(OSError):  # full disk: `save` will warn
            self.add_to_curves(scalars, self.step)
        self.wandb.log(scalars, self.step)
        if evaluated:
            self.keep_best(score_of(scalars))
        self.show(evaluated)

    def add_to_curves(self, scalars: dict[str, float], step: int):
        # One entry for all: SummaryWriter's own add_scalar() makes one for each
        points = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self.writer.file_writer.add_summary(Summary(value=points), step)

    def show(self, evaluated: bool):
        """Show the latest values beside the bar; without a terminal, print a line."""
        text = BAR
        if "rollout/ep_reward" in self.latest:
            text += f", reward {self.latest['rollout/ep_reward']:.4g}"
        for name in [name for name in SHOWN if name in self.latest][:1]:
            text += f", {SHOWN[name]} {self.latest[name]:.4g}"
        self.bar.bar_format = text
        if time.perf_counter() - self.told_at >= 1:
            self.told_at = time.perf_counter()
            self.write_status()
        if self.bar.disable and evaluated and time.perf_counter() - self.printed_at >= 10:
            self.printed_at = time.perf_counter()
            total = self.args.total_timesteps
            how = {"bar_format": self.bar.bar_format.partition("| ")[2], "unit_scale": True}
            line = tqdm.format_meter(min(self.step, total), total, self.seconds, unit="", **how)
            say(line, sys.stderr)

    def write_status(self):
        """Write the progress of the training for other programs."""
        status = {"step": self.step, "total_timesteps": self.args.total_timesteps}
        status |= {"seconds": self.seconds} | self.latest
        with suppress(OSError):  # full disk: `save` will warn
            write_json(self.folder / "status.json", status)

    def keep_best(self, score: list[float]):
        """Write best.pt if this score is the highest."""
        if score > self.best_score and self.args.save_model:
            with errors.warn_on_error(f"best.pt is not written at step {self.step}", OSError):
                self.write_model("best.pt")
                self.best_score = score

    def best_evaluation(self) -> str:
        """A line on the best networks, if the last ones scored less; otherwise nothing."""
        best, last = np.round(self.best_score, 2), np.round(score_of(self.latest), 2)
        if best.tolist() <= last.tolist():
            return ""
        try:
            step = read_model(self.folder / "best.pt")["step"]
        except Refused:  # somebody removed it
            return ""
        names = [name for name in SHOWN if name in self.latest]
        rate = f"{names[0]} {best[0]:.2f}, " if len(names) > 1 else ""
        scores = f"{rate}eval/ep_reward {best[1]:.2f}"
        return f"\nbest evaluation (--which best): step {step}; {scores}"

    def write_model(self, name: str):
        networks = self.state["networks"].named_children()
        weights = {name: network.state_dict() for name, network in networks}
        write_atomically(self.folder / name, to_bytes(weights | {"step": self.step}))

    def save(self):
        """Write model.pt and a checkpoint; warn if that fails."""
        try:
            if self.args.save_model:
                self.write_model("model.pt")
            files = self.write_episodes()
            self.flush_curves()
            self.write_checkpoint(files)
            self.unsaved = False
        except OSError as error:
            self.unsaved = True
            warn(f"nothing was saved at step {self.step}: {error.strerror or error}")
        except TypeError:
            check_state(self.state)  # names the part that cannot be saved
            raise

    def write_episodes(self) -> list[tuple]:
        """Write the new episodes; returns the files of all episodes."""
        if not self.args.checkpoint_buffer:
            return []
        newest_first = takewhile(lambda one: one is not self.last_packed, reversed(self.episodes))
        new = list(newest_first)[::-1]
        if not new:
            return self.files
        (self.folder / "episodes").mkdir(exist_ok=True)
        name = f"episodes/{self.number:06}.packed"
        seal = write_sealed(self.folder / name, pack(new))
        files = [*self.files, (name, len(new), seal)]
        while sum(count for _, count, *_ in files[1:]) >= len(self.episodes):
            del files[0]
        return files

    def write_checkpoint(self, files: list[tuple]):
        """Write a checkpoint; the previous one becomes checkpoint.old, unless it is damaged."""
        own = {"step": self.step, "seconds_before": self.seconds, "latest": self.latest}
        own |= {"best_score": self.best_score, "files": files}
        own["logged"] = [(scalars, step) for scalars, step in self.logged if step == self.step]
        state = {"format": FORMAT, "script": script_of(type(self.args)), "args": asdict(self.args)}
        state |= {"run": own} | {name: state_of(part) for name, part in self.state.items()}
        new, path = self.folder / "checkpoint.new", self.folder / "checkpoint.pt"
        write_sealed(new, to_bytes(state))
        if self.keep_old and path.exists():
            os.replace(path, path.with_suffix(".old"))
        os.replace(new, path)
        self.keep_old = True
        # files of this checkpoint and of the old one
        needed = {Path(name).name for name, *_ in (*files, *self.files)}
        self.files = files
        self.number += 1
        self.logged = own["logged"]
        self.last_packed = self.episodes[-1] if self.episodes else None
        for file in self.packed_files():
            if file.name not in needed and file.is_file():
                file.unlink()

    def packed_files(self) -> list[Path]:
        return [*(self.folder / "episodes").glob("[0-9]" * 6 + ".packed")]

    def flush_curves(self):
        """Write all points to TensorBoard's files, to new files if necessary."""
        try:
            self.writer.flush()
        except OSError:  # the writer's thread has ended with this error
            self.open_writer()
            self.writer.flush()

    def __exit__(self, kind, raised, traceback):
        """Close everything, print how the run ended, and exit with the matching status.

        After an error, save the run, but not if it has learned nothing or what is not finite.
        """
        stopping.forget()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        gc.unfreeze()
        gc.set_threshold(*self.gc_threshold)
        error = self.judged(raised)
        if isinstance(error, Exception) and not isinstance(error, FloatingPointError | Refused):
            try:
                self.save()
            except Exception as another:  # tell the first error, too
                warn(f"nothing was saved at step {self.step}: {another}")
        if isinstance(error, Stopped):
            error = None
        self.bar.close()
        self.gradients.stop()
        if not error:
            least = getattr(self.args, "batch_size", 0)
            if len(self.episodes) >= least or not self.stopped:
                self.gradients.warn_at_end(len(self.episodes), least)
            self.exploration.warn_at_end()
        ending = f"failed: {error!r}" if error else "stopped" if self.stopped else "done"
        self.wandb.finish(self.step, ending)
        self.sessions[-1] |= {"ended": now(), "ending": ending}
        self.write_status()
        with suppress(OSError):  # full disk: `save` has warned
            self.writer.close()
            write_json(self.folder / "run.json", self.sessions)
        self.lock.release()
        if error:
            say(f"run folder: {self.shown_folder}", sys.stderr)
            if error is not raised:
                raise error from None
            return
        results = [f"{n} {v:.2f}" for n, v in self.latest.items() if n.startswith("eval/")]
        found = f"; {', '.join(results)}" if results else ""
        best = self.best_evaluation()
        say(f"{ending} after {self.step} steps{found}{best}\nrun folder: {self.shown_folder}")
        if self.unsaved:
            raise RunFailed(f"the end of the run could not be saved in {self.shown_folder}")
        if self.stopped:
            sys.exit(128 + self.stopped)

    def judged(self, error: BaseException | None) -> BaseException | None:
        """The error that ends the run: what is the environment's fault, or the memory's, in a line.

        In the first episode nothing is learned, so the environment is refused.
        """
        if isinstance(error, EnvFault):
            first = not self.episodes and not self.args.resume
            return Refused(str(error)) if first else RunFailed(str(error))
        if is_out_of_memory(error):
            reason = out_of_memory(error, self.episodes, self.args.buffer_size)
            self.episodes.clear()  # to save the rest needs memory, too
            return RunFailed(reason)
        return error


def score_of(metrics: dict) -> list[float]:
    """What the best networks have most of: win or success rate, then reward."""
    success = metrics.get("eval/battle_won", metrics.get("eval/success", 0.0))
    return [success, metrics.get("eval/ep_reward", -np.inf)]


def random_stream(args, purpose: str, *number: int) -> np.random.Generator:
    """Random numbers of one episode or update, so checkpoints need no generator."""
    purposes = ("train", "explore", "sample", "eval", "test")
    # NumPy fills keys up with zeros: only the length keeps (50,) and (50, 0) apart
    key = (args.seed, purposes.index(purpose), *number, len(number) - 1)
    return np.random.default_rng(key)

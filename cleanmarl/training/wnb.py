"""Weights & Biases: what a run sends there. A fault there is a warning, and the training continues.

The run there has the name of the run folder. Its group is what a plot draws as one line: the
environment, the script and the arguments that are not its defaults. So seeds are grouped.
"""

import os
import re
from dataclasses import MISSING, asdict, fields
from hashlib import sha256
from pathlib import Path

from cleanmarl.training.arguments import FREE, script_of, title_of
from cleanmarl.training.checkpoint import read_model
from cleanmarl.training.errors import in_one_line, warn, warn_on_error
from cleanmarl.training.initial import as_given
from cleanmarl.training.session import commit

TASK = {"env_type", "env_name", "env_family", "env_options", "seed"}
ONE_LINE = TASK | FREE - {"total_timesteps", "device"}  # not what tells two lines of a plot apart
OF_TEAM = ("best.pt", "team.json", "args.json")  # what `load_team` needs


def variant_of(args) -> list[str]:
    """The arguments that are not the script's defaults, as on a command line."""
    words = []
    for field in fields(args):
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        value = getattr(args, field.name)
        if field.name not in ONE_LINE and value != default:
            words.append(as_given(field.name, value))
    return words


def group_of(args) -> str:
    """The name of the group, in at most 128 characters: environment, script, variant."""
    title = title_of(args.env_name, args.env_options)
    text = " ".join([args.env_type, title, script_of(type(args)), *variant_of(args)])
    if len(text) <= 128:
        return text
    return f"{text[:112]}... {sha256(text.encode()).hexdigest()[:12]}"


class Wandb:
    """The run on Weights & Biases; without `args.use_wnb` it does nothing.

    Args:
        args: the script's arguments
        folder: of the run
    """

    def __init__(self, args, folder: Path):
        self.folder = folder
        self.captures_video = args.capture_video
        self.run = None
        if args.use_wnb:
            self.attempt(self.open, args)

    def open(self, args):
        import wandb  # import it only here, because it is slow

        script = script_of(type(args))
        tags = [args.env_type, title_of(args.env_name, args.env_options), script]
        run = {"name": self.folder.name, "id": self.folder.name}
        run["dir"] = str(self.folder.resolve())  # W&B's own process may be in another folder
        run |= {"project": args.wnb_project or None, "entity": args.wnb_entity or None}
        # None: W&B reads the variable itself
        run["group"] = None if os.environ.get("WANDB_RUN_GROUP") else group_of(args)
        run["tags"] = None if os.environ.get("WANDB_TAGS") else [tag[:64] for tag in tags]
        run["config"] = {"script": script, "commit": commit()} | asdict(args) | {"resume": ""}
        self.run = wandb.init(resume="allow", **run)
        # Its own counter cannot go back to the checkpoint from which a killed run is resumed
        self.run.define_metric("*", step_metric="step")

    def attempt(self, call, *args, **options):
        """Call W&B; if it fails, switch it off."""
        try:
            call(*args, **options)
        except Exception as error:
            self.run = None
            warn(f"Weights & Biases is switched off: {in_one_line(error)}")

    def log(self, scalars: dict[str, float], step: int):
        if self.run:
            self.attempt(self.run.log, scalars | {"step": step})

    def finish(self, step: int, ending: str):
        """Send the episode and the best team, unless the run has failed, and end the run there.

        `ending` is "done", "stopped", or begins with "failed".
        """
        if not self.run:
            return
        failed = ending.startswith("failed")
        has_video = self.captures_video and (self.folder / "episode.gif").exists()
        if ending == "done" and has_video:
            with warn_on_error("no video in Weights & Biases"):
                self.send_episode(step)
        if not failed and (self.folder / "best.pt").exists():
            with warn_on_error("no team in Weights & Biases"):
                self.send_team()
        self.attempt(self.run.finish, exit_code=int(failed))

    def send_episode(self, step: int):
        import wandb

        video = wandb.Video(str(self.folder / "episode.gif"), format="gif")
        self.run.log({"episode": video, "step": step})

    def send_team(self):
        """Send the best networks, and what is needed to load them, as an artifact."""
        import wandb

        name = re.sub(r"[^\w.-]", "-", self.folder.name)[:128]
        saved = {"step": read_model(self.folder / "best.pt")["step"]}
        team = wandb.Artifact(name, type="model", metadata=saved)
        for file in OF_TEAM:
            team.add_file(str(self.folder / file))
        self.run.log_artifact(team, aliases=["latest", "best"])

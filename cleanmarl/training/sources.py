"""The user's own files behind an environment: a scenario, or a package in the working directory.

They may be edited, or be missing in another folder. So team.json has their place and digests.
"""

from hashlib import sha256
from pathlib import Path

from cleanmarl.training.checkpoint import read_team
from cleanmarl.training.errors import Refused, refuse_on_error, warn

MOST = 1000  # files of a package that are read


def has_scenario(args) -> bool:
    return args.env_type == "smaclite" and args.env_name.endswith(".toml")


def source_of(args) -> Path | None:
    """The scenario file, module or package of an environment; None without one here."""
    if has_scenario(args):
        return Path(args.env_name) if Path(args.env_name).is_file() else None
    module = args.env_name.rpartition(":")[0]
    package = {"pz": args.env_family, "gym": module}.get(args.env_type, "")
    parts = package.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    places = (Path(*parts), Path(*parts).with_suffix(".py"))
    return next((path for path in places if files_in(path)), None)


def digest_of(file: Path) -> str:
    """Raises OSError."""
    return sha256(file.read_bytes()).hexdigest()


def files_in(path: Path) -> list[Path]:
    """A file, or the Python files of a package."""
    if path.is_dir():
        return sorted(file for file in path.glob("*.py") if file.is_file())[:MOST]
    return [path] if path.is_file() else []


def scenario_of(args) -> dict | None:
    """Place and digests of an environment's own files, for team.json; None without any."""
    path = source_of(args)
    if path is None:
        return None
    files = {file.name: digest_of(file) for file in files_in(path)}
    digest = files.get(path.name) or sha256(repr(files).encode()).hexdigest()
    about = {"file": str(path.resolve()), "folder": str(Path.cwd()), "sha256": digest}
    return about | ({"files": files} if path.is_dir() else {})


@refuse_on_error()
def check_scenario(folder: Path, args):
    """Tell if the own files of a run's environment have changed since.

    Raises Refused if a scenario file is not there. (A package may be installed.)
    """
    then = read_team(folder).get("scenario") if (folder / "team.json").exists() else None
    if then is None:  # or made by an older version
        return
    now = scenario_of(args)
    if now is None and has_scenario(args):
        raise Refused(f"there is no {args.env_name} here; the run was started in {then['folder']}")
    if now is not None and now["sha256"] != then["sha256"]:
        before, after = then.get("files", {}), now.get("files", {})
        names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
        which = f": {', '.join(names[:5])}" if before and after else ""
        warn(f"{now['file']} has changed since the run was trained with it{which}")

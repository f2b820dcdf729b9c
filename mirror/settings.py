"""What holds for every profile: the command line, then the environment's MIRROR_…, then defaults.

Imported only by commands that need it. The variables are read here and not by pydantic-settings,
which costs as much as pydantic itself at every start.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from mirror.core.model import Limits
from mirror.errors import UsageError
from mirror.profile.values import Duration, Rate, Size, Transfers


def _expanded(path: Path) -> Path:
    # Path.expanduser raises RuntimeError when there is no home.
    return Path(os.path.expanduser(path))  # noqa: PTH111


# StateDirectory= of systemd/mirror@.service: where nightly runs remember, whoever asks.
STATE_OF_UNITS: Final = Path("/var/lib/mirror")

_PREFIX: Final = "MIRROR_"
_UserPath = Annotated[Path, AfterValidator(_expanded)]


class GlobalSettings(BaseModel):
    """The knobs that are not a profile's, and those of a profile that may be set from outside."""

    model_config = ConfigDict(frozen=True)

    # The folder that is looked in first.
    profiles: _UserPath | None = None
    # auto: text on a terminal, else JSON lines.
    log_format: Literal["auto", "json", "text"] = "auto"
    # Where log lines go besides stderr.
    log_file: _UserPath | None = None
    # Most originals downloaded at once, above what profiles say.
    transfers: Transfers | None = None
    # Free space in bytes that is never used up, above what profiles say.
    min_free: Size | None = None
    # The limits of a run, above what profiles say.
    bandwidth: Rate | None = None
    max_transfer: Size | None = None
    max_duration: Duration | None = None

    @property
    def limits(self) -> Limits:
        """Those of the run as a whole."""
        return Limits(
            bandwidth=self.bandwidth,
            max_transfer_bytes=self.max_transfer,
            max_duration_s=self.max_duration,
        )


def global_settings(**given: Any) -> GlobalSettings:  # noqa: ANN401 (as argparse has them)
    """The settings; `given` comes from the command line, None where an option was not used.

    Raises:
        UsageError: with every wrong value, by the name of its option or variable.
    """
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return GlobalSettings(**_environment() | options)
    except ValidationError as error:
        wrong = [_wrong(str(d["loc"][0]), d["msg"], options) for d in error.errors()]
        raise UsageError("; ".join(wrong)) from error


def _environment() -> dict[str, str]:
    """What the variables say; the case of their names makes no difference, an empty one is none."""
    upper = {name.upper(): value for name, value in os.environ.items()}
    given = {name: upper.get(_PREFIX + name.upper()) for name in GlobalSettings.model_fields}
    return {name: value for name, value in given.items() if value}


def _wrong(name: str, message: str, options: dict[str, object]) -> str:
    source = f"--{name.replace('_', '-')}" if name in options else _PREFIX + name.upper()
    what = message.removeprefix("Value error, ").replace("Input should be", "should be")
    return f"{source} {what}"


def state_directory() -> Path:
    """Where the program remembers its destinations: systemd's StateDirectory=, or the user's.

    Raises:
        UsageError: none of the variables says where, and there is no home.
    """
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]  # systemd lists several with ":"
    if given:
        return Path(given)
    home = _expanded(Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state"))
    if not home.is_absolute():
        raise UsageError(
            "there is no folder to remember destinations in",
            why=f"{home} is not an absolute path",
            hint="set HOME, XDG_STATE_HOME or STATE_DIRECTORY",
        )
    return home / "mirror"

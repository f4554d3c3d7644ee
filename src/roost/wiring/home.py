"""The home directory as the server's processes find it: folders, private files, the socket paths' length.

Called by the parent before anything is started. It never removes or changes what a user put there.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from roost.config import Settings
from roost.domain.errors import InvalidSettings
from roost.wiring.listen import LONGEST_UNIX_PATH

LONGEST_SOCKET_NAME = "internal.sock"
"""The longest name of the sockets in ``run/``."""


def prepare(settings: Settings) -> None:
    """Create the home directory and its folders; ``run/`` gets mode 0700 in any case.

    Raises ``InvalidSettings`` when they cannot be created or written, or when the path is too long for sockets.
    """
    spare = LONGEST_UNIX_PATH - len(os.fsencode(settings.run_dir / LONGEST_SOCKET_NAME))
    if spare < 0:
        raise InvalidSettings(
            f"The home directory {settings.home} has a path that is {-spare} bytes too long for unix sockets: "
            "choose a shorter one (--home, or ROOST_HOME)."
        )
    try:
        for folder in (settings.home, settings.run_dir, settings.logs_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.run_dir.chmod(0o700)
        with tempfile.TemporaryFile(dir=settings.run_dir):
            pass
    except OSError as error:
        raise InvalidSettings(
            f"The home directory {settings.home} cannot be used ({error.strerror}): "
            "choose one that you can write to (--home, or ROOST_HOME)."
        ) from error


def write_private(path: Path, text: str) -> None:
    """Put ``text`` at ``path`` with mode 0600, all of it or nothing: readers never see half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        # A no-op once it has its final name.
        fresh.unlink(missing_ok=True)

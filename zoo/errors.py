"""Every error the zoo raises on purpose: what went wrong, why, and what to do next.

`code` is the word printed in `error[code]: ...` and in JSON; `exit_code` is what the command line returns.
"""

from __future__ import annotations

from typing import Any


class ZooError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what went wrong, one sentence.
        why: the cause, where it is known.
        hint: what to do next.

    Attributes:
        facts: what a program may read beside the error: plain values, printed with it under `--json`.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, why: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.hint = hint
        self.facts: dict[str, Any] = {}

    def __str__(self) -> str:
        return "\n".join(part for part in (self.message, self.why, self.hint) if part)


class UsageError(ZooError):
    """The call itself is wrong: an unknown option, two choices that exclude each other, a name already taken."""

    code, exit_code = "usage", 2


class RegistryError(UsageError):
    """A registry file or a spec breaks the schema."""

    code = "registry"


class PluginError(ZooError):
    """A plugin failed (raised only in strict mode; elsewhere it is reported)."""

    code = "plugin"


class NotFoundError(ZooError):
    """A name, a file or weights that nothing here has."""

    code, exit_code = "not-found", 3


class DownloadError(ZooError):
    """The network or the server failed."""

    code, exit_code = "download", 4


class IntegrityError(ZooError):
    """Bytes are not what they must be: hash, header, names, shapes, lock."""

    code, exit_code = "integrity", 5


class DiskError(ZooError):
    """The disk is full, read-only or not ours to write."""

    code, exit_code = "disk", 6


class DataError(ZooError):
    """The data cannot be learned from as it is."""

    code, exit_code = "data", 7


class TrainingError(ZooError):
    """Learning failed, for instance with a non-finite loss."""

    code, exit_code = "training", 7

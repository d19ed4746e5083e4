"""Keys that had other names in earlier versions.

A config that a user writes is refused with the new name. The config that an earlier version saved
in a run directory is still read, so that the run can be resumed.
"""

from typing import Any

from msdtool.config.yaml_file import KeyPath

RENAMED: dict[KeyPath, str] = {
    ("stream", "dt"): "frames_per_chunk",
    ("data", "foreground", "share"): "fraction",
}
"""The old key path, and the new name of its last key."""


def new_path(old: KeyPath) -> KeyPath | None:
    """The path of a key today, or None if ``old`` is not the former name of a key."""
    return (*old[:-1], RENAMED[old]) if old in RENAMED else None


def with_new_names(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a config with former names of keys replaced."""
    return _renamed(tree, ())


def _renamed(tree: dict[str, Any], path: KeyPath) -> dict[str, Any]:
    return {
        RENAMED.get((*path, key), key): _renamed(value, (*path, key))
        if isinstance(value, dict)
        else value
        for key, value in tree.items()
    }

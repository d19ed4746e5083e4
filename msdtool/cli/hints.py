"""The options behind the arguments and config keys that the library's messages advise to use."""

OPTIONS = {
    "compress": "--compress",
    "config": "--set",
    "data_range": "--data-range",
    "device": "--device",
    "dilations": "--dilations",
    "dtype": "--dtype",
    "ensemble": "--ensemble",
    "format": "--format",
    "limit": "--limit",
    "memory": "--memory",
    "overwrite": "--overwrite",
    "probabilities": "--probabilities",
    "region": "--region",
    "resume": "--resume",
    "run.directory": "--run-dir",
    "scale": "--scale",
    "scale_input": "--scale-input",
    "scratch": "--scratch",
    "skip_existing": "--skip-existing",
    "slices": "--slices",
    "splits": "--splits",
    "spread": "--spread",
    "stack": "--stack",
    "task": "--task",
    "tta": "--tta",
}


def hint(keys: str) -> str:
    """Return the sentence that names the options of ``keys``; empty where no option sets them.

    Args:
        keys: arguments or config keys, separated by spaces: `msdtool.errors.Error.hint_key`.
    """
    options = [OPTIONS[key] for key in keys.split() if key in OPTIONS]
    return f" ({', '.join(options)})" if options else ""

"""The experiment's YAML: its schema, and how a file and overrides become a validated config."""

from msdtool.config.data_schema import DataConfig, GeometryConfig, IntensityConfig
from msdtool.config.experiment import ExperimentConfig
from msdtool.config.image_schema import ImagePairs, ImageSource, ValidationData
from msdtool.config.load import (
    changed_keys,
    directory_override,
    dump_config,
    dump_yaml,
    leaves,
    load_config,
    load_saved_config,
    parse_source,
)
from msdtool.config.schema import NetworkConfig, RunConfig, StreamConfig, TrainingConfig
from msdtool.config.sizes import SSIM_WINDOW, multiscale_window, size_for_loss

__all__ = [
    "SSIM_WINDOW",
    "DataConfig",
    "ExperimentConfig",
    "GeometryConfig",
    "ImagePairs",
    "ImageSource",
    "IntensityConfig",
    "NetworkConfig",
    "RunConfig",
    "StreamConfig",
    "TrainingConfig",
    "ValidationData",
    "changed_keys",
    "directory_override",
    "dump_config",
    "dump_yaml",
    "leaves",
    "load_config",
    "load_saved_config",
    "multiscale_window",
    "parse_source",
    "size_for_loss",
]

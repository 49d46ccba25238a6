"""Training runs: recipes and the files of a run directory, without torch; `train.loop` does the training."""

from edgewise.train.recipe import Recipe, check_recipe
from edgewise.train.recipe_file import copy_recipe, decode_recipe, encode_recipe, list_recipes, load_recipe
from edgewise.train.records import (
    ENVIRONMENT_FORMAT,
    MEMORY_FORMAT,
    SUMMARY_FORMAT,
    Environment,
    EpochLine,
    MemoryFile,
    MetricLine,
    RunSummary,
    StepLine,
)
from edgewise.train.units import Amount, parse_bytes, parse_seconds
from edgewise.train.watch import CompareWatch, Watch

__all__ = [
    "ENVIRONMENT_FORMAT",
    "MEMORY_FORMAT",
    "SUMMARY_FORMAT",
    "Amount",
    "CompareWatch",
    "Environment",
    "EpochLine",
    "MemoryFile",
    "MetricLine",
    "Recipe",
    "RunSummary",
    "StepLine",
    "Watch",
    "check_recipe",
    "copy_recipe",
    "decode_recipe",
    "encode_recipe",
    "list_recipes",
    "load_recipe",
    "parse_bytes",
    "parse_seconds",
]

"""Where a run takes place: versions, platform, threads and device, so that its figures can be read later."""

import platform
from importlib import metadata

import msgspec
import torch

from edgewise.devices import Device
from edgewise.train.records import ENVIRONMENT_FORMAT, Environment

PACKAGES = ("edgewise", "torch", "numpy", "highspy", "msgspec", "safetensors", "scikit-learn")


def describe_environment(device: Device) -> Environment:
    """This process, and the device that the plan is made for."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return Environment(
        format=ENVIRONMENT_FORMAT,
        versions=versions,
        platform=platform.platform(),
        threads=torch.get_num_threads(),
        device=msgspec.to_builtins(device),
    )

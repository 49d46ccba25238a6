"""What computing and paging cost on a device: profiles, and a probe of this host."""

from edgewise.devices.file import decode_device, encode_device, numbers, read_device, save_device
from edgewise.devices.nouns import Compute, Cost, CostModel, Device, Memory, Ram, Tier
from edgewise.devices.probe import probe_host
from edgewise.devices.shelf import Listed, list_devices, load_device, profile_text, user_folder

__all__ = [
    "Compute",
    "Cost",
    "CostModel",
    "Device",
    "Listed",
    "Memory",
    "Ram",
    "Tier",
    "decode_device",
    "encode_device",
    "list_devices",
    "load_device",
    "numbers",
    "probe_host",
    "profile_text",
    "read_device",
    "save_device",
    "user_folder",
]

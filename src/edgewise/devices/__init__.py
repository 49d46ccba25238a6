"""What computing and paging cost on a device: profiles, and a probe of this host."""

from edgewise.devices.nouns import Compute, Cost, CostModel, Device, Memory, Ram, Tier

__all__ = ["Compute", "Cost", "CostModel", "Device", "Memory", "Ram", "Tier"]

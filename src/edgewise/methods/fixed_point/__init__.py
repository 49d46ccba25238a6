"""Training in integers: 16-bit weights, 8-bit activations and perturbations ("16w8a", arXiv 2411.04036)."""

from edgewise.methods.fixed_point.inference import capture_inference
from edgewise.methods.fixed_point.model import IntegerModel, quantize
from edgewise.methods.fixed_point.step import capture_fixed, inference_graph

__all__ = ["IntegerModel", "capture_fixed", "capture_inference", "inference_graph", "quantize"]

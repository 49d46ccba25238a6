"""Whole networks on boards that are small for them: what the benchmark measures, and the tests run once."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Captured, Optimizer
from edgewise.methods import SparseUpdate, capture_with, fold_norms
from edgewise.zoo import build_model, resolve_task

KIB = 1024


class Case(NamedTuple):
    make: Callable[[], tuple[nn.Module, Any, Any]]
    optimizer: Optimizer
    device: str
    board: str
    ram_bytes: int


def from_zoo(name: str, batch: int = 1) -> Callable[[], tuple[nn.Module, Any, Any]]:
    def make() -> tuple[nn.Module, Any, Any]:
        task = resolve_task(name, batch=batch)
        return task.model, task.loss, task.example_batch

    return make


class SentenceClassifier(nn.Module):
    """BERT (arXiv 1810.04805) of 30,522 tokens, without dropout; a head of two classes."""

    def __init__(self, *, wide: int, layers: int, heads: int) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

        config = BertConfig(
            vocab_size=30_522,
            hidden_size=wide,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * wide,
            num_labels=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertForSequenceClassification(config)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        scores: Tensor = self.bert(tokens_BT).logits
        return scores


def _sentence(**sizes: int) -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    model = SentenceClassifier(**sizes)
    return model, "cross_entropy", (torch.randint(0, 30_522, (1, 32)), torch.randint(0, 2, (1,)))


def minilm() -> tuple[nn.Module, Any, Any]:
    """MiniLM-L6 (arXiv 2002.10957), and 32 tokens."""
    return _sentence(wide=384, layers=6, heads=12)


def tiny_bert() -> tuple[nn.Module, Any, Any]:
    """BERT-tiny (arXiv 1908.08962), and 32 tokens."""
    return _sentence(wide=128, layers=2, heads=2)


class Pixels(nn.Module):
    """A network of numbers about 0, for images of bytes: what a camera gives, and RAM has to hold."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scores: Tensor = self.network((x_BCHW.float() - 128) / 64)
        return scores


SPARSE_SHARES = {24: 0.25, 27: 0.5, 30: 0.5}
"""Convolutions of MCUNet-5fps, counted from 0, and shares of their weights that MCUNetV3 trains in 49 kB."""
SPARSE_BIASES = 20
"""Convolutions whose biases it trains, the last ones; and all of the head (tiny-training, mcu_ir_gen.py)."""


def folded(model: nn.Module, inputs: Any) -> nn.Module:
    """`model` with its norms folded into convolutions: with the statistics of `inputs`, or signals fade."""
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    with torch.no_grad():
        model.train()(inputs)
    fold_norms(model)
    return model


def mcunet(size: int = 128) -> tuple[nn.Module, Any, Any]:
    """MCUNet-5fps, norms folded, and one image of bytes."""
    generator = torch.Generator().manual_seed(2)  # by which no activation is within rounding of a kink
    images = torch.randint(0, 256, (8, 3, size, size), dtype=torch.uint8, generator=generator)
    return folded(Pixels(build_model("mcunet")), images), "cross_entropy", (images[:1], torch.tensor([3]))


def sparse_mcunet(size: int = 128, frozen: Literal["float32", "int8"] = "float32") -> tuple[Captured, Any]:
    """MCUNetV3's sparse update of MCUNet-5fps, layers before the first trained one `frozen`, and its batch.

    It trains shares of input channels (`49kb-int8-graph.json` of TinyEngine), this the same shares of output
    channels, which are as many weights.
    """
    model, loss, batch = mcunet(size)
    paths = [name for name, m in model.named_modules() if getattr(m, "weight", None) is not None]
    convolutions, head = paths[:-1], paths[-1]
    shares = {convolutions[index]: share for index, share in SPARSE_SHARES.items()}
    method = SparseUpdate({**shares, head: 1.0}, (*convolutions[-SPARSE_BIASES:], head), frozen)
    return capture_with(method, model, loss, SGD(0.01), batch, name="mcunet"), batch


CASES = {
    "MLP, batch 4, AdamW": Case(from_zoo("mlp", 4), AdamW(), "stm32f4", "stm32f405", 96 * KIB),
    "digits CNN, batch 4, momentum": Case(
        from_zoo("digits-cnn", 4), SGD(0.1, momentum=0.9), "stm32f4", "stm32f405", 32 * KIB
    ),
    "ResNet-8, SGD": Case(from_zoo("resnet8"), SGD(0.1), "stm32f4", "lm3s6965", 64 * KIB),
    "ResNet-8, AdamW": Case(from_zoo("resnet8"), AdamW(), "stm32f4", "stm32f405", 64 * KIB),
    "ResNet-8, momentum": Case(from_zoo("resnet8"), SGD(0.1, momentum=0.9), "stm32f4", "an547", 64 * KIB),
    "MobileNetV2-0.35 at 64, SGD": Case(
        from_zoo("mobilenetv2"), SGD(0.01), "stm32f4", "stm32f405", 128 * KIB
    ),
    "BERT-tiny, 32 tokens, SGD": Case(tiny_bert, SGD(0.1), "stm32f4", "stm32f405", 128 * KIB),
    "ResNet-18 (CIFAR stem), SGD": Case(from_zoo("resnet18"), SGD(0.1), "nrf52840", "an500", 256 * KIB),
    "MiniLM-L6, 32 tokens, SGD": Case(minilm, SGD(0.01), "nrf52840", "an500", 256 * KIB),
}

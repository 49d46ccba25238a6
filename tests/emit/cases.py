"""Whole networks on boards that are small for them: what the benchmark measures, and the tests run once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgewise.capture import SGD, AdamW, Optimizer
from edgewise.zoo import resolve_task

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
    """MiniLM-L6 (arXiv 2002.10957): 6 layers, 384 wide, 12 heads, 30,522 tokens; a head of two classes."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

        config = BertConfig(
            vocab_size=30_522,
            hidden_size=384,
            num_hidden_layers=6,
            num_attention_heads=12,
            intermediate_size=1536,
            num_labels=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertForSequenceClassification(config)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        scores: Tensor = self.bert(tokens_BT).logits
        return scores


def minilm() -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    model = SentenceClassifier()
    return model, "cross_entropy", (torch.randint(0, 30_522, (1, 32)), torch.randint(0, 2, (1,)))


class TinyBert(nn.Module):
    """BERT-tiny (arXiv 1908.08962): 2 layers, 128 wide, 2 heads, 30,522 tokens; a head of two classes."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

        config = BertConfig(
            vocab_size=30_522,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=512,
            num_labels=2,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertForSequenceClassification(config)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        scores: Tensor = self.bert(tokens_BT).logits
        return scores


def tiny_bert() -> tuple[nn.Module, Any, Any]:
    torch.manual_seed(0)
    return TinyBert(), "cross_entropy", (torch.randint(0, 30_522, (1, 32)), torch.randint(0, 2, (1,)))


CASES = {
    "MLP, batch 4, AdamW": Case(from_zoo("mlp", 4), AdamW(), "stm32f4", "stm32f405", 96 * KIB),
    "digits CNN, batch 4, momentum": Case(
        from_zoo("digits-cnn", 4), SGD(0.1, momentum=0.9), "stm32f4", "stm32f405", 32 * KIB
    ),
    "ResNet-8, SGD": Case(from_zoo("resnet8"), SGD(0.1), "stm32f4", "lm3s6965", 64 * KIB),
    "ResNet-8, AdamW": Case(from_zoo("resnet8"), AdamW(), "stm32f4", "stm32f405", 64 * KIB),
    "MobileNetV2-0.35 at 64, SGD": Case(
        from_zoo("mobilenetv2"), SGD(0.01), "stm32f4", "stm32f405", 128 * KIB
    ),
    "BERT-tiny, 32 tokens, SGD": Case(tiny_bert, SGD(0.1), "stm32f4", "stm32f405", 128 * KIB),
    "ResNet-18 (CIFAR stem), SGD": Case(from_zoo("resnet18"), SGD(0.1), "nrf52840", "an500", 256 * KIB),
    "MiniLM-L6, 32 tokens, SGD": Case(minilm, SGD(0.01), "nrf52840", "an500", 256 * KIB),
}

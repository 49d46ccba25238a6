"""The families of networks whose planned training is held against unplanned and eager PyTorch training.

Legend: B batch, T tokens, D width, C channels, H height, W width of an image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgewise.zoo import resolve_task

Batch = tuple[Any, Any]
Made = tuple[nn.Module, Any, Callable[[int], Batch]]
"""Model in train mode, loss, and `batch(index)`: batches that differ."""

CLASSES = 5


@dataclass(frozen=True)
class Family:
    """One network, small enough for a test. `make()` is deterministic."""

    name: str
    make: Callable[[], Made]
    layers: str


def _seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().train()


def _numbers(*shape: int) -> Callable[[int], Batch]:
    def batch(index: int) -> Batch:
        generator = torch.Generator().manual_seed(index)
        x = torch.randn(shape, generator=generator)
        return x, torch.randint(CLASSES, shape[:1], generator=generator)

    return batch


def _tokens(count: int, length: int, below: int, *, targets: str = "classes") -> Callable[[int], Batch]:
    def batch(index: int) -> Batch:
        generator = torch.Generator().manual_seed(index)
        tokens = torch.randint(below, (count, length), generator=generator)
        shape = (count, length) if targets == "tokens" else (count,)
        return tokens, torch.randint(CLASSES if targets == "classes" else below, shape, generator=generator)

    return batch


def zoo(name: str, batch: int, **args: Any) -> Callable[[], Made]:
    """A model of the zoo; batch `index` is its example batch in another order of samples and signs."""

    def make() -> Made:
        task = resolve_task(name, batch=batch, args=args)
        inputs, targets = task.example_batch

        def turn(index: int) -> Batch:
            turned = inputs.roll(index, 0)
            return (turned * (1 + index) if turned.is_floating_point() else turned), targets

        return task.model, task.loss, turn

    return make


class SkipSum(nn.Module):
    """One value is read four times, so that its gradient is a sum of four; one weight is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.head = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x_BD: Tensor) -> Tensor:
        h = torch.tanh(self.first(x_BD))
        once = F.gelu(self.shared(h))
        twice = F.silu(self.shared(once + h))
        return self.head(once * h + twice + h.detach())


class LayerNormNet(nn.Module):
    """Layer norm, RMS norm and plain activations over features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(12, 24), nn.LayerNorm(24), nn.SiLU(), nn.Linear(24, 24, bias=False), nn.RMSNorm(24),
            nn.Softplus(), nn.LayerNorm(24, elementwise_affine=False), nn.LeakyReLU(), nn.Linear(24, CLASSES),
        )  # fmt: skip

    def forward(self, x_BD: Tensor) -> Tensor:
        return self.layers(x_BD)


class NormNet(nn.Module):
    """Batch norm over features, a 1-d convolution with group and instance norm, and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.next = nn.Conv1d(3, 8, 3, padding=1), nn.Conv1d(8, 8, 3, groups=2)
        self.group, self.instance = nn.GroupNorm(2, 8), nn.InstanceNorm1d(8, affine=True)
        self.pool, self.batch = nn.AvgPool1d(2), nn.BatchNorm1d(8, momentum=0.3)
        self.free = nn.BatchNorm1d(8, affine=False)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x_BCT: Tensor) -> Tensor:
        x_BCT = F.hardswish(self.group(self.conv(x_BCT)))
        x_BCT = F.elu(self.instance(self.next(self.pool(x_BCT))))
        x_BC = self.batch(F.adaptive_avg_pool1d(x_BCT, 1).squeeze(-1))
        return self.head(self.free(torch.sigmoid(x_BC)))


class Upsampler(nn.Module):
    """Bilinear and nearest upsampling, pixel shuffle, padding, concatenation, depthwise convolution.

    A bias before a batch norm would have a gradient of nothing but rounding, so there is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.norm, self.drop = nn.BatchNorm2d(8), nn.Dropout2d(0.2)
        self.head = nn.Linear(18, CLASSES)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        small = F.relu6(self.norm(self.conv(x_BCHW)))
        wide = self.drop(self.depthwise(F.pad(small, (1, 1, 1, 1))))
        up = F.interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)
        near = F.interpolate(small, scale_factor=2, mode="nearest")
        parts = torch.cat([up, F.pixel_shuffle(small.repeat(1, 1, 2, 2)[:, :8], 1), near[:, :2]], dim=1)
        return self.head(F.max_pool2d(parts, 2).amax(dim=(2, 3)))


class MaskedAttention(nn.Module):
    """`nn.MultiheadAttention` with dropout and padding, and `scaled_dot_product_attention` with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 16, padding_idx=0), nn.Linear(16, CLASSES)
        self.attention = nn.MultiheadAttention(16, 4, dropout=0.2, batch_first=True)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.embed(tokens_BT)
        x_BTD = x_BTD + self.attention(x_BTD, x_BTD, x_BTD, key_padding_mask=tokens_BT == 0)[0]
        parts = x_BTD.unflatten(-1, (2, 8)).transpose(1, 2)
        mask = (tokens_BT != 0)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(parts, parts, parts, attn_mask=mask, dropout_p=0.1)
        return self.head(mixed.transpose(1, 2).flatten(2).mean(dim=1))


def _module(build: Callable[[], nn.Module], batch: Callable[[int], Batch]) -> Callable[[], Made]:
    return lambda: (_seeded(build), "cross_entropy", batch)


def _nonzero(batch: Callable[[int], Batch]) -> Callable[[int], Batch]:
    """No sample of padding alone: its attention would be a softmax over nothing."""

    def fixed(index: int) -> Batch:
        tokens, targets = batch(index)
        tokens[:, 0] = 1
        return tokens, targets

    return fixed


WORDS = {"length": 12, "vocabulary": 50}
OWN = [
    Family("mlp", zoo("mlp", 4, features=12, hidden=(16, 16)), "linear, relu"),
    Family("resnet18", zoo("resnet18", 2), "11 million weights"),
    Family("resnet8", zoo("resnet8", 2), "convolution, batch norm, shortcuts"),
    Family("mobilenetv2", zoo("mobilenetv2", 2, size=32), "depthwise convolution, relu6"),
    Family("unet", zoo("unet", 2, width=4, size=16), "group norm, transposed convolution, long skips"),
    Family("transformer", zoo("transformer", 2, length=12), "attention, layer norm, dropout"),
    Family("text-classifier", zoo("text-classifier", 4, **WORDS, dropout=0.2), "embedding, dropout"),
    Family("tied-classifier", zoo("text-classifier", 4, **WORDS, tied=True), "tied weights"),
    Family("tied-lm", zoo("tied-lm", 2, **WORDS, dropout=0.1), "tied weights, causal attention"),
    Family("digits-cnn", zoo("digits-cnn", 4), "convolution, batch norm, max pool"),
    Family("skip-sum", _module(SkipSum, _numbers(4, 12)), "a value and a weight used twice"),
    Family("layer-norm", _module(LayerNormNet, _numbers(4, 12)), "layer norm, RMS norm"),
    Family("norms", _module(NormNet, _numbers(4, 3, 16)), "batch, group and instance norm"),
    Family("upsampler", _module(Upsampler, _numbers(2, 3, 8, 8)), "upsampling, channel dropout"),
    Family("masked-attention", _module(MaskedAttention, _nonzero(_tokens(3, 8, 40))), "attention with masks"),
]


def _public(build: Callable[[Any], nn.Module], batch: Callable[[int], Batch]) -> Callable[[], Made]:
    def make() -> Made:
        import transformers  # noqa: PLC0415 (seconds; only for those who ask)

        return _seeded(lambda: build(transformers)), "cross_entropy", batch

    return make


_SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}


def _bert(t: Any) -> nn.Module:
    return t.BertForSequenceClassification(
        t.BertConfig(**_SMALL, vocab_size=60, max_position_embeddings=16, num_labels=CLASSES)
    )


def _distilbert(t: Any) -> nn.Module:
    size = {"n_layers": 2, "n_heads": 2, "dim": 16, "hidden_dim": 32}
    config = t.DistilBertConfig(**size, vocab_size=60, max_position_embeddings=16, num_labels=CLASSES)
    return t.DistilBertForSequenceClassification(config)


def _gpt2(t: Any) -> nn.Module:
    size = {"n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = t.GPT2Config(**size, vocab_size=60, use_cache=False, bos_token_id=0, eos_token_id=0)
    return t.GPT2LMHeadModel(config)


def _llama(t: Any) -> nn.Module:
    config = t.LlamaConfig(
        **_SMALL, num_key_value_heads=1, vocab_size=60, max_position_embeddings=16, use_cache=False
    )
    return t.LlamaForCausalLM(config)


def _vit(t: Any) -> nn.Module:
    return t.ViTForImageClassification(t.ViTConfig(**_SMALL, image_size=16, patch_size=8, num_labels=CLASSES))


def _mobilenet(t: Any) -> nn.Module:
    config = t.MobileNetV2Config(image_size=32, depth_multiplier=0.25, num_labels=CLASSES)
    return t.MobileNetV2ForImageClassification(config)


def _convnext(t: Any) -> nn.Module:
    size = {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "image_size": 16}
    config = t.ConvNextConfig(**size, num_labels=CLASSES, drop_path_rate=0.1)
    return t.ConvNextForImageClassification(config)


PUBLIC = [
    Family("BERT", _public(_bert, _tokens(2, 8, 60)), "transformers library"),
    Family("DistilBERT", _public(_distilbert, _tokens(2, 8, 60)), "transformers library"),
    Family("GPT-2", _public(_gpt2, _tokens(2, 8, 60, targets="tokens")), "transformers library"),
    Family("Llama", _public(_llama, _tokens(2, 8, 60, targets="tokens")), "transformers library"),
    Family("ViT", _public(_vit, _numbers(2, 3, 16, 16)), "transformers library"),
    Family("MobileNetV2", _public(_mobilenet, _numbers(2, 3, 32, 32)), "transformers library"),
    Family("ConvNeXt", _public(_convnext, _numbers(2, 3, 16, 16)), "transformers library"),
]
FAMILIES = {family.name: family for family in (*OWN, *PUBLIC)}

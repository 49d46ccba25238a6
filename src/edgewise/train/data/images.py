"""A folder of images, one subfolder a class. Images are read one by one when their batch is due."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from edgewise.errors import CorruptArtifact, UsageError
from edgewise.train.data.samples import Array, Dataset, Indices, hold_out
from edgewise.train.recipe import Images

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


@dataclass(frozen=True)
class ImageFiles:
    """Image files, each with its class; a batch is float32 [B, channels, height, width] from 0 to 1."""

    files: tuple[tuple[Path, int], ...]
    size: tuple[int, int]
    channels: int

    def __len__(self) -> int:
        return len(self.files)

    def batch(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """`(inputs, targets)` of the samples with these numbers."""
        chosen = [self.files[index] for index in indices]
        images = np.stack([_read(path, self.size, self.channels) for path, _ in chosen])
        return torch.from_numpy(images), torch.tensor([label for _, label in chosen], dtype=torch.int64)


def load_images(config: Images) -> Dataset:
    """The images below `config.path`.

    Raises:
        UsageError: no such folder, no classes or images in it, a class that only one part has, or no pillow.
    """
    _pillow()
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise UsageError(f"Cannot read the image folder {config.path}: no such folder. Check `data.path`.")
    if (root / "train").is_dir() and (root / "test").is_dir():
        classes, train = _listed(root / "train")
        _, test = _listed(root / "test", classes)
        parts = [list(chain.from_iterable(groups)) for groups in (train, test)]
    else:
        classes, groups = _listed(root)
        parts = [[], []]
        for group in groups:
            kept, held = hold_out(len(group), config.test_fraction)
            parts[0] += [group[index] for index in kept]
            parts[1] += [group[index] for index in held]
    samples = [ImageFiles(tuple(part), config.size, config.channels) for part in parts]
    return Dataset(config.path, samples[0], samples[1], len(classes))


def _listed(
    root: Path, classes: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], list[list[tuple[Path, int]]]]:
    """Names of the classes below `root`, and the images of each."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UsageError(f"{root} has no subfolders. Put the images of each class into a folder of its own.")
    names = classes or tuple(folder.name for folder in folders)
    strange = [folder.name for folder in folders if folder.name not in names]
    if strange:
        raise UsageError(
            f"{root} has the class `{strange[0]}`, unknown to the training images: {', '.join(names)}."
        )
    groups: list[list[tuple[Path, int]]] = [[] for _ in names]
    for folder in folders:
        label = names.index(folder.name)
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise UsageError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}). Remove or fill it.")
        groups[label] = [(path, label) for path in found]
    return names, groups


def _read(path: Path, size: tuple[int, int], channels: int) -> Array:
    """float32 [channels, height, width]."""
    height, width = size
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            fitted = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise CorruptArtifact(f"{path} is no sound image: {error}. Remove or replace it.") from error
    pixels = np.asarray(fitted, dtype=np.float32) / np.float32(255)
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _pillow() -> ModuleType:
    try:
        from PIL import Image  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise UsageError("Reading images needs pillow: `pip install edgewise[data]`.") from error
    return Image

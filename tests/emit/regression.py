"""A linear regression by hand in the form of a generated folder: the weights are paged, the bias is in RAM.

`losses` are those that it should have, computed with numpy.
"""

import shutil
from pathlib import Path

import numpy as np
import torch

import edgewise.emit
from edgewise.emit import Store, furnish, image, lay_out

SOURCE = Path(__file__).parent / "regression_model"
FEATURES, BATCH = 8, 4
STORE: Store = lay_out([(4 * FEATURES, "double"), (4, "double"), (400, "journal")], 1024)
WEIGHT, BIAS, LOSSES = range(3)
RAM_BYTES = 8000
STATE = (144, 36)
"""Range of the arena that holds the weights of the last step, and the bias."""


def write_folder(folder: Path) -> Path:
    """The folder, with the sources that it needs, and a store of zeros."""
    shutil.copytree(SOURCE, folder)
    furnish(folder)
    (folder / "kernels").mkdir()
    shutil.copy(Path(edgewise.emit.__file__).parent / "kernels" / "ew.h", folder / "kernels")
    (folder / "weights.bin").write_bytes(image(STORE, [bytes(slot.bytes) for slot in STORE.slots]))
    return folder


def batches(steps: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets of a linear map plus one."""
    random = torch.Generator().manual_seed(0)
    true = torch.randn(FEATURES, generator=random)
    xs = [torch.randn(BATCH, FEATURES, generator=random) for _ in range(steps)]
    return [(x, x @ true + 1) for x in xs]


def losses(steps: int) -> list[float]:
    """The losses of plain SGD in float64."""
    w, b = np.zeros(FEATURES), 0.0
    found = []
    for x_BF, t_B in ((x.double().numpy(), t.double().numpy()) for x, t in batches(steps)):
        off_B = x_BF @ w + b - t_B
        found.append(float((off_B**2).mean()))
        w = w - 0.025 * off_B @ x_BF
        b = b - 0.025 * off_B.sum()
    return found

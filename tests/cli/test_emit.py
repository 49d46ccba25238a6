"""`edgewise emit`: what it writes, what it says, and what it refuses."""

from pathlib import Path

import pytest

from edgewise.emit import RESERVED_BYTES
from tests.cli.conftest import Run

ODD = """
import torch
from torch import nn


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)

    def forward(self, x):
        return self.first(x).cumprod(1)


def build():
    return Odd()
"""


def test_for_people(run: Run, tmp_path: Path) -> None:
    said = run("emit", "mlp@2", "--ram", "96KiB", "--time-limit", 2, "-o", "build")
    assert said.code == 0
    assert "RAM             96 KiB, 4,352 B of them stack and variables" in said.out
    assert "next: edgewise emulate build" in said.out
    names = {path.name for path in (tmp_path / "build").iterdir()}
    assert names >= {"model.c", "model.h", "model.json", "weights.bin", "README.md", "Makefile", "kernels"}
    assert "matmul.c" in {path.name for path in (tmp_path / "build" / "kernels").iterdir()}
    assert "convolution.c" not in {path.name for path in (tmp_path / "build" / "kernels").iterdir()}


def test_json(run: Run) -> None:
    found = run("emit", "mlp@2", "--ram", "64KiB", "--time-limit", 2, "-o", "build", "--json").json
    assert found["arena_bytes"] <= 64 * 1024 - RESERVED_BYTES
    assert found["peak_bytes"] <= found["arena_bytes"]
    assert {"status", "gap", "seconds", "joules", "bytes_read", "store_bytes", "sources"} <= set(found)


def test_inference_alone_is_not_trained(run: Run, tmp_path: Path) -> None:
    said = run("emit", "mlp@2", "--inference", "--time-limit", 2, "-o", "build")
    assert said.code == 0
    assert "next: make -C build" in said.out
    assert "model_step" not in (tmp_path / "build" / "model.h").read_text()
    said = run("emulate", "build")
    assert said.code == 2
    assert "build infers and does not train. Emit it without `--inference`: it then does both." in said.err


def test_an_emitted_folder_is_replaced_and_another_is_not(run: Run, tmp_path: Path) -> None:
    for model in ("digits-cnn@2", "mlp@2"):
        assert run("emit", model, "--time-limit", 2, "-o", "build").code == 0
    assert "convolution.c" not in {path.name for path in (tmp_path / "build" / "kernels").iterdir()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    said = run("emit", "mlp@2", "--time-limit", 2, "-o", "mine")
    assert said.code == 2
    assert "mine is not empty, and no emitted model. Name another folder." in said.err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "all of it"


def test_too_little_ram_says_how_much_would_do(run: Run) -> None:
    said = run("emit", "mlp@2", "--ram", "8KiB", "--time-limit", 2, "-o", "build")
    assert said.code == 3
    assert f"No plan fits 8,192 B, of which stack and variables take {RESERVED_BYTES:,} B." in said.err
    least = said.err.partition("Try `--ram ")[2].partition("`")[0]
    assert run("emit", "mlp@2", "--ram", f"{int(least) + 512}", "--time-limit", 2, "-o", "build").code == 0
    said = run("emit", "mlp@2", "--ram", "4KiB", "-o", "build")
    assert said.code == 2
    assert "leave nothing: stack and variables take" in said.err


def test_ops_without_c_are_named_with_their_layer(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_net.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    said = run("emit", "odd_net:build@2x4", "-o", "build")
    assert said.code == 4
    assert "cannot be emitted as C because of" in said.err
    assert "cumprod: no kernel in C" in said.err
    assert not (tmp_path / "build").exists()


def test_a_graph_has_no_code(run: Run) -> None:
    said = run("emit", "graph.json", "-o", "build")
    assert said.code == 2
    assert "graph.json is a graph, without the model's code. Name a model or a recipe." in said.err

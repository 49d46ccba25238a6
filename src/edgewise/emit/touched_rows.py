"""The update of a table by the rows that a step looked up: those are read, changed and written, no others.

It mirrors `capture.tiling.gathers.touched_rows`. In the store such a table has one copy, and the journal
keeps the rows as they were until the commit.
"""

from dataclasses import replace

from edgewise.capture.kernels import AtenKernel
from edgewise.capture.optimizers import SGD
from edgewise.capture.tiling.gathers import WIDTH
from edgewise.capture.tiling.nest import Loop
from edgewise.capture.updates import UpdateKernel
from edgewise.emit.calls import Call, Settings, Unsupported, single
from edgewise.emit.loops import Execution, LoopBody
from edgewise.emit.rooms import changes_rows


def loop_body(run: Execution) -> list[str]:
    """The lines of the C function for one execution in slices."""
    return (TouchedRows(run) if changes_rows(run.loop) else LoopBody(run)).write()


class TouchedRows(LoopBody):
    """The body of the function: a loop over blocks of columns, if there is any."""

    def __init__(self, run: Execution) -> None:
        blocks = tuple((axis, size) for axis, size in run.loop.blocks if axis == WIDTH)
        super().__init__(replace(run, loop=Loop(run.loop.nest, blocks)))

    def write(self) -> list[str]:
        """The rows of each block of columns, all in one call."""
        self.open_loops()
        self._update()
        return self.close_loops()

    def _update(self) -> None:
        kernel = self.kernel
        if not isinstance(kernel, UpdateKernel) or not isinstance(kernel.optimizer, SGD):
            raise Unsupported("no update of single rows in C but by SGD")
        producer = kernel.producer.run if kernel.producer is not None else None
        if not isinstance(producer, AtenKernel):
            raise Unsupported("no update of single rows in C but of an embedding")
        gradient, index, _, padding, _ = producer.whole.args
        (table,) = self.nest.inouts
        streamed = table.value in self.run.streamed
        place = "NULL" if streamed else f"(float *)(void *)({self.run.place(table.value)})"
        slot = self.run.access[table.value].slot if streamed else 0
        room = f"(float *)(void *)({self.room(0)})"
        rows = (place, slot, table.size[1], self.at.get(WIDTH, 0), padding, room)
        learning = Settings("ew_sgd_settings", (single(kernel.optimizer.lr), single(0), single(0)))
        views = (self.slots[gradient.index], self.slots[index.index])
        self.calls((Call("ew_rows_update", (Settings("ew_rows", rows), *views, learning), checked=True),))

"""Parameters of which each rank has some rows: whole in a checkpoint, for any number to resume.

A state is what `Run` saves: `trained`, a module's, and `optimiser`, whose entries are numbered in
the order of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from mstkd.compute.ranks import Ranks
from mstkd.losses.sharded_loss import ShardedHeadLoss

State = dict[str, Any]


def sharded(trained: nn.Module) -> dict[str, int]:
    """Names of such parameters, and how many rows all ranks have together."""
    return {
        f"{name}.head.weight".lstrip("."): module.num_classes
        for name, module in trained.named_modules()
        if isinstance(module, ShardedHeadLoss)
    }


def whole_state(state: State, rows: dict[str, int], names: Sequence[str], ranks: Ranks) -> State:
    """The state with all rows, on the first rank; the others send theirs and get nothing of use.

    Args:
        state: of this rank.
        rows: what `sharded` says.
        names: of the optimiser's parameters.
        ranks: who has the rows.
    """
    return _with(state, rows, names, lambda block, count: ranks.whole(block, count))


def own_state(state: State, rows: dict[str, int], names: Sequence[str], ranks: Ranks) -> State:
    """The state with this rank's rows alone, of one with all."""
    begin_end = {count: slice(*ranks.block(count)) for count in rows.values()}
    return _with(state, rows, names, lambda every, count: every[begin_end[count]].clone())


def _with(
    state: State,
    rows: dict[str, int],
    names: Sequence[str],
    change: Callable[[Tensor, int], Tensor | None],
) -> State:
    """The state with a change of all that has these rows: weights and their momenta."""
    trained = dict(state["trained"])
    entries = dict(state["optimiser"]["state"])
    for name, count in rows.items():
        trained[name] = change(trained[name], count)
        number = names.index(name)
        if number in entries:  # not before the first step
            entries[number] = {
                key: change(value, count) if isinstance(value, Tensor) and value.ndim else value
                for key, value in entries[number].items()
            }
    return {**state, "trained": trained, "optimiser": {**state["optimiser"], "state": entries}}

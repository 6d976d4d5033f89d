"""What a person reads of input that will not do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from mstkd.errors import InputError


@contextlib.contextmanager
def refused_in_one_line(message: str) -> Iterator[None]:
    """What is done within raises an InputError of one line, with that message in it."""
    with pytest.raises(InputError) as error:
        yield
    assert message in str(error.value), str(error.value)
    assert "\n" not in str(error.value)

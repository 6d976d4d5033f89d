"""Files made to harm run nothing and are refused; README.md says what each would do elsewhere."""

from pathlib import Path

import pytest
from attack import ATTACKS, refusal


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused(tmp_path: Path, name: str) -> None:
    told = refusal(name, tmp_path)
    assert all(line.isprintable() for line in told.splitlines())


def test_every_attack_is_explained() -> None:
    told = (Path(__file__).parent / "README.md").read_text()
    assert all(f"`{name}`" in told for name in ATTACKS)

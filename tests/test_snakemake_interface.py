"""The methods of Snakemake that are replaced are there, and are asked as they were."""

import pytest
from snakemake.common import __version__ as snakemake_version
from snakemake.persistence import PersistenceBase

from mstkd.errors import InputError
from mstkd.workflow.reruns import REPLACED, _check_interface


class Asking:
    """What Snakemake's class has, as far as it is replaced."""

    def has_metadata(self, job): ...
    def has_outdated_metadata(self, job): ...
    def params_changed(self, job, file=None): ...
    def code_changed(self, job, file=None): ...
    def input_changed(self, job, file=None): ...
    def software_stack_changed(self, job, file=None): ...
    async def incomplete(self, job): ...


class Lacking(Asking):
    code_changed = None


class Otherwise(Asking):
    def input_changed(self, jobs, files): ...


class Overridden(Asking):
    pass


class Overriding(Overridden):
    async def incomplete(self, job): ...


def test_a_snakemake_that_asks_otherwise_is_refused():
    _check_interface(PersistenceBase)
    assert set(REPLACED) == {name for name in vars(Asking) if not name.startswith("__")}
    for kind, told in (
        (Lacking, "Lacking.code_changed: found no such method; expected one"),
        (Otherwise, "Otherwise.input_changed: found a method of (self, jobs); expected one"),
        (Overridden, "Overridden.incomplete: found another in Overriding; expected"),
    ):
        with pytest.raises(InputError) as error:
            _check_interface(kind)
        assert str(error.value).startswith(f"snakemake {snakemake_version}: {told}")

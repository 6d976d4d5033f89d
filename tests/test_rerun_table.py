"""The documents say of every key what Snakemake does."""

import pytest
from rerun_table import (
    CONFIGS,
    EVERY_EDIT,
    README,
    TABLE,
    cell,
    document_with_table,
    edits,
    effect,
    jobs_of,
    readme_with_cells,
    table_lines,
)
from runs import edited

from mstkd.config import Config

WRITE = "python tests/rerun_table.py --write"


@pytest.fixture(scope="module")
def lines():
    return table_lines()


@pytest.mark.slow
@pytest.mark.workflow
def test_the_table_of_reruns_is_that_of_the_rules(lines):
    text = TABLE.read_text()
    assert document_with_table(lines, text) == text, WRITE


@pytest.mark.slow
@pytest.mark.workflow
def test_the_key_table_says_what_reruns(lines):
    text = README.read_text()
    assert readme_with_cells(lines, text) == text, WRITE
    assert " ? |" not in text, "a row whose key no config of rerun_table.py has"


@pytest.mark.slow
@pytest.mark.workflow
def test_every_edit_reruns_something(lines):
    assert [line.key for line in lines if cell(line) == "nothing"] == []


def test_every_key_is_edited():
    """All keys but those that hold a section, or names whose entries are edited one by one."""
    found = set()
    for name in CONFIGS:
        found |= {edit.key for edit in edits(name, found)}
    for section, field in Config.model_fields.items():
        assert any(key.split(".")[0] == section for key in found), section
        inner = getattr(field.annotation, "model_fields", {})
        for key in inner.keys() - {"recipe"}:
            named = f"{section}.{key}"
            assert any(one == named or one.startswith(f"{named}.") for one in found), named


@pytest.mark.workflow
def test_an_effect_is_told_apart_by_its_cause():
    """Checked against the rules by hand: what changes, what hangs on it, what is not there yet."""
    config = CONFIGS["drawn faces"]
    before, always = jobs_of(config), {EVERY_EDIT: 1}
    again = effect(before, before)
    assert not again.missing + again.direct + again.below
    found = effect(before, jobs_of(edited(config, {"report.title": "Another"})))
    assert dict(found.direct) == {"render_page": 1, **always}
    assert dict(found.below) == {"render_provenance": 1}
    found = effect(before, jobs_of(edited(config, {"report.draws": 500})))
    assert dict(found.direct) == {
        **{"compute_claims": 1, "render_table": 6, "render_error_rates": 3, "score_impostors": 3},
        "render_model_card": 19,  # of four adaptors, two sets and two losses, and three controls
        **always,
    }
    below = {"render_intervals", "render_page", "render_provenance"}  # of the claims
    assert dict(found.below) == {"render_impostors": 3, **dict.fromkeys(below, 1)}
    found = effect(before, jobs_of(edited(config, {"adaptors.architectures.DLDP.dropout": 0.5})))
    assert dict(found.direct) == {"train_adaptor": 2, **always}
    assert found.below["train_student"] == 2 * 2
    assert not found.missing
    found = effect(before, jobs_of(edited(config, {"seeds": [0, 7]})))
    assert found.missing["train_teacher"] == 4
    assert found.direct["render_table"] == 6
    assert set(found.below) == below

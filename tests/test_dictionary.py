"""What stands beside a CSV file of a table: its columns and notes, where tools look for them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from reporting import errors, verification_pairs, write_scored

from mstkd.artifacts.provenance import METADATA, SIDECAR
from mstkd.artifacts.records import Metrics, NetworkSize, read_record
from mstkd.artifacts.told import told_by
from mstkd.config import ErrorRateSettings, TableSettings
from mstkd.errors import InputError
from mstkd.report.error_rates import render_error_rates
from mstkd.report.tables import render_table

GROUPS = ("A", "B-2")


def metrics_of(folder: Path, seeds: int) -> list[Path]:
    pairs = verification_pairs(GROUPS, identities=12, pairs=60)
    accuracies = dict(zip(GROUPS, (80, 75), strict=True))
    return [
        write_scored(
            folder, pairs, errors(pairs, accuracies, seed=9 * place + seed), set=set_, seed=seed
        )
        for place, set_ in enumerate(("specialized", "baseline"))
        for seed in range(seeds)
    ]


def told_of(table: Path) -> tuple[dict[str, str], dict[str, str], dict]:
    """Descriptions and types of the columns by their heads, and all of the metadata."""
    told = json.loads(table.with_name(f"{table.name}-metadata.json").read_text())
    with table.open(newline="") as file:
        heads = next(csv.reader(file))
    columns = told["tableSchema"]["columns"]
    assert [column["titles"] for column in columns] == heads
    described = {column["titles"]: column["dc:description"] for column in columns}
    return described, {column["titles"]: column["datatype"] for column in columns}, told


def test_every_column_of_a_table_is_explained_with_seeds_and_what_follows_the_sign(
    tmp_path: Path,
) -> None:
    table, page = tmp_path / "table2.csv", tmp_path / "table2.md"
    settings = TableSettings(caption="Ours — a-KD", groups=GROUPS, draws=100)
    render_table(settings, metrics=metrics_of(tmp_path, 2), outputs=[table, page])
    columns, types, told = told_of(table)
    assert told["@context"] == "http://www.w3.org/ns/csvw" and told["url"] == "table2.csv"
    assert told["dc:title"] == settings.caption
    assert columns["B-2"].startswith("Verification accuracy of group B-2, percent")
    assert "mean over them" in columns["std"] and "percentage points" in columns["std"]
    assert (
        "what follows ±" in columns["B-2_seed_std"] and "over the seeds" in columns["std_seed_std"]
    )
    assert "95 %" in columns["global_accuracy_low"] and "pairs" in columns["A_pairs"]
    assert (types["name"], types["A"], types["seeds"]) == ("string", "number", "integer")
    # The notes are those of the other formats.
    assert "± is the sample standard deviation over them" in told["dc:description"]
    assert told["dc:description"] in page.read_text().replace("\\", "")


def test_every_column_of_error_rates_is_explained(tmp_path: Path) -> None:
    table = tmp_path / "table2.csv"
    settings = ErrorRateSettings(caption="Errors", groups=GROUPS, draws=100, fmr=0.1)
    render_error_rates(settings, metrics=metrics_of(tmp_path, 1), outputs=[table])
    columns, types, told = told_of(table)
    assert not [name for name, words in columns.items() if "accuracy" in words]
    assert (types["value"], types["seed"], types["group"]) == ("number", "integer", "string")
    assert "fewer than ten errors" in told["dc:description"]


def test_the_network_is_no_group(tmp_path: Path) -> None:
    metrics, table = metrics_of(tmp_path, 1), tmp_path / "table2.csv"
    network = NetworkSize(parameters=1_200_000, multiply_adds=220_965_376)
    for path in metrics:
        read_record(Metrics, path).model_copy(update={"network": network}).write(path)
    settings = TableSettings(caption="Ours", groups=GROUPS)
    render_table(settings, metrics=metrics, outputs=[table])
    columns, types, _ = told_of(table)
    assert {name for name, words in columns.items() if "accuracy of group" in words} == set(GROUPS)
    assert "network" in columns["parameters"] and "Multiplications" in columns["multiply_adds"]
    assert types["parameters"] == types["multiply_adds"] == "integer"


def test_no_byte_of_a_table_or_of_what_lies_beside_it_changes_unseen(tmp_path: Path) -> None:
    names = ("table2.csv", "table2.md", "table2.tex", "table2.html")
    tables = [tmp_path / name for name in names]
    settings = TableSettings(caption="Ours", groups=GROUPS, draws=100)
    render_table(settings, metrics=metrics_of(tmp_path, 1), outputs=tables)
    beside = [tmp_path / f"table2.csv{ending}" for ending in (SIDECAR, METADATA)]
    for path in (*tables, *beside):
        whole, told = path.read_bytes(), told_by(path)
        assert told is not None and told.unchanged
        for place in range(0, len(whole), 7):
            # The case of a letter: what reads hexadecimal numbers may not mind.
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
            try:
                found = told_by(path)
            except InputError:
                continue
            assert found is None or not found.unchanged, f"{path.name}: byte {place}"
        path.write_bytes(whole)
    beside[1].unlink()
    gone = told_by(tables[0])
    assert gone is not None and not gone.unchanged

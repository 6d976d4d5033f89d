"""Whether the models that a report shows were made by the config beside it, as it is being made.

A page stays as it is when results change: it knows no more than the time at which it was made. What
decides is in the records, as for a rerun (`artifacts.standing`); weights, images and embeddings are
believed to be what their records say.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from pathlib import Path

from mstkd.artifacts.sources import IMPORTING
from mstkd.artifacts.standing import Asked, Contents, differences
from mstkd.artifacts.told import Told, told_by
from mstkd.config import PackSettings, Settings, files, read_config
from mstkd.errors import InputError

SHOWN = 5  # models that are named


def verdict(config: Path, folder: Path, metrics: Sequence[str]) -> str:
    """One sentence: all models shown, and what they were made from, are the config's, or which not.

    Args:
        config: the file of the whole config.
        folder: of the results.
        metrics: from there, the metrics.json file of each model that is shown.
    """
    records = _Records(config)
    paths = {name: Path(os.path.normpath(folder / name)) for name in metrics}
    found = {name: records.why_not(path) for name, path in paths.items() if path.is_file()}
    others = [f"{Path(name).parent}: {why}" for name, why in found.items() if why is not None]
    count = f"{len(metrics):,} model{'s' if len(metrics) > 1 else ''}"
    if not others:
        # The same where files are gone: the page of a run hangs on no more than config and data.
        return (
            f"When this page was made, all that was there of the {count} shown, and of what they "
            "were made from, had been made by the config beside it, as far as the records say."
        )
    more = len(others) - SHOWN
    return (
        f"When this page was made, {len(others):,} of the {count} shown had not been made by the "
        f"config beside it: {'; '.join(others[:SHOWN])}"
        + (f"; and {more:,} more" if more > 0 else "")
        + ". The plain command makes them anew."
    )


class _Records:
    """What records say against a config, each read once."""

    def __init__(self, file: Path) -> None:
        config = read_config(file)
        self._asked, self._drawn = config.settings_of, config.data.synthetic is not None
        packs = files.packs(config, config.evaluation.pairs)
        self._tested_packs = [Path(*Path(pack).parts[-2:]) for pack in packs]
        self._contents = Contents()
        self.why_not = functools.cache(self._why_not)

    def _why_not(self, path: Path) -> str | None:
        """Why a file, or one that it was made from, is not what the config asks for."""
        try:
            told = told_by(path.with_name("model.json") if path.suffix == ".safetensors" else path)
        except (InputError, OSError, ValueError) as error:
            return str(error)
        if told is None or told.unchanged is False:
            return f"{path.name} holds no record of what made it, or another file's"
        sources = [Path(os.path.normpath(path.parent / one.path)) for one in told.made.sources]
        settings = self._settings(path, told)
        if settings is None:
            return f"{path.name} is of a model, group or set that is not asked for"
        read = self._tested(sources) if told.made.step == "evaluate" else [sources]
        asked = Asked(told.made.step, json.loads(settings.dump()), read, {})
        for why in differences(told, path.parent, asked, self._contents):
            return f"{path.name}: {why}"
        if told.made.step.startswith(IMPORTING):  # of a file that is no result of this config
            return None
        above = (self.why_not(source) for source in sources if source.is_file())
        return next((why for why in above if why is not None), None)

    def _tested(self, sources: Sequence[Path]) -> list[list[Path]]:
        """What a model is evaluated on: the packs of the config, in its order, where they lie."""
        packs = [path for path in sources if path.suffix == ".h5"]
        models = [path for path in sources if path not in packs]
        folder = packs[0].parent.parent if packs else Path()
        return [models, [folder / pack for pack in self._tested_packs]]

    def _settings(self, path: Path, told: Told) -> Settings | None:
        """The config's settings of the step that made a file; None where it asks for no such."""
        made, who = told.made, {} if told.subject is None else told.subject.model_dump()
        if made.step == "split":
            who = {"split": path.parent.as_posix().rpartition("/splits/")[2]}
        if made.step == "cache-embeddings":
            who = {"mirrored": made.settings.get("mirrored", False)}
        settings = self._asked(made.step, group=made.settings.get("group"), **who)
        if isinstance(settings, PackSettings) and self._drawn:
            # Drawn faces lie with the results, wherever these are.
            return settings.lying_at(made.settings["root"])
        return settings

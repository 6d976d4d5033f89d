"""Every setting of the pipeline: its type, its range, its default and where that comes from.

`Config` is the whole file; each step of the pipeline gets its own smaller model, which holds
exactly what determines the step's output and nothing else, so that an edit reruns what it must
(see config/README.md). Sections and tables are those of the MST-KD paper; D-numbers are rows of
docs/paper-vs-code.md. No torch here: the Snakefile is parsed in every cluster job.
"""

from mstkd.config.base import Settings, Step, Storage
from mstkd.config.data import (
    AlignmentSettings,
    CheckSettings,
    DataSettings,
    HeldOutIdentities,
    HeldOutSettings,
    ImageSettings,
    PackSettings,
    PackUnlabelledSettings,
    SplitSettings,
    SynthesizeSettings,
)
from mstkd.config.models import SETS, teachers_of
from mstkd.config.reading import read_config, read_settings, validate, workflow_config
from mstkd.config.results import (
    RFW,
    AuditSettings,
    ClaimsSettings,
    ErrorRateSettings,
    EvaluationSettings,
    PageSettings,
    ScoreKind,
    TableSettings,
    Threshold,
)
from mstkd.config.training import (
    AdaptorArchitecture,
    AdaptorOptimiser,
    AdaptorSettings,
    BackboneSettings,
    CacheSettings,
    EngineSettings,
    HeadSettings,
    LossSettings,
    NamedStudent,
    OptimiserSettings,
    Precision,
    SamplingSettings,
    SelectionSettings,
    StudentOptimiser,
    Students,
    StudentSettings,
    StudentsSettings,
    TeacherOptimiser,
    Teachers,
    TeacherSettings,
)
from mstkd.config.whole import Config

__all__ = [
    "RFW",
    "SETS",
    "AdaptorArchitecture",
    "AdaptorOptimiser",
    "AdaptorSettings",
    "AlignmentSettings",
    "AuditSettings",
    "BackboneSettings",
    "CacheSettings",
    "CheckSettings",
    "ClaimsSettings",
    "Config",
    "DataSettings",
    "EngineSettings",
    "ErrorRateSettings",
    "EvaluationSettings",
    "HeadSettings",
    "HeldOutIdentities",
    "HeldOutSettings",
    "ImageSettings",
    "LossSettings",
    "NamedStudent",
    "OptimiserSettings",
    "PackSettings",
    "PackUnlabelledSettings",
    "PageSettings",
    "Precision",
    "SamplingSettings",
    "ScoreKind",
    "SelectionSettings",
    "Settings",
    "SplitSettings",
    "Step",
    "Storage",
    "StudentOptimiser",
    "StudentSettings",
    "Students",
    "StudentsSettings",
    "SynthesizeSettings",
    "TableSettings",
    "TeacherOptimiser",
    "TeacherSettings",
    "Teachers",
    "Threshold",
    "read_config",
    "read_settings",
    "teachers_of",
    "validate",
    "workflow_config",
]

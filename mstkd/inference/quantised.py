"""Models of int8 weights: smaller, and unlike what was measured. What that costs is to be told.

Quantisation is known to cost some groups more than others, so nobody gets such a model without
the comparison, group by group, on pairs of their own (`comparison`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from mstkd.artifacts.atomic import replacing
from mstkd.inference.export import Exported, export, needs, quietly, with_metadata
from mstkd.inference.model import FaceModel


def export_quantised(model: FaceModel, output: Path) -> Exported:
    """Write a model as ONNX with weights of 8 bits; activations are quantised as they come.

    It takes one image at a time: activations are scaled by the largest of their batch, so that in
    a larger one an embedding would hang on the other images. Its metadata holds no calibration: a
    threshold is of the model that it was set for.

    Args:
        model: of PyTorch.
        output: a file ending in .onnx.

    Raises:
        InputError: as `export`.
    """
    needs("onnx", "onnxscript", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, quietly("root"):
        whole, small = Path(folder) / "whole.onnx", Path(folder) / "small.onnx"
        told = export(model, whole, single=True)
        # Unsigned, for onnxruntime convolves no signed weights.
        quantize_dynamic(whole, small, weight_type=QuantType.QUInt8, per_channel=False)
        proto = onnx.load(small)
    told = told.model_copy(update={"quantised": True, "calibration": None})
    data = with_metadata(proto, told)
    with replacing(output, needed=len(data)) as (part,):
        part.write_bytes(data)
    return told

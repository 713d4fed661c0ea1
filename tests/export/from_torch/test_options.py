"""An option of the export that there is not, or a value that it cannot have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from streamgru.errors import OptionError
from streamgru_export import export

X, H = torch.randn(1, 1, 4), torch.zeros(1, 1, 8)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"stream": "stpe"}, "stream='stpe': .*did you mean 'step'"),
        ({"exporter": "dinamo"}, "exporter='dinamo': one of 'dynamo', 'legacy' was expected; did you mean 'dynamo'"),
        ({"exporter": "onnx"}, "exporter='onnx': one of"),
        ({"tolerance": 0}, "tolerance=0: a positive"),
        ({"tolerance": float("nan")}, "tolerance=nan: a positive"),
        ({"metadata": {"f": object()}}, r"metadata\['f'\] is of type object"),
        ({"metadata": {"f": float("nan")}}, r"metadata\['f'\] is of type float"),
        ({"opsett": 17}, "export has no option 'opsett'; did you mean 'opset'"),
    ],
)
def test_what_an_option_cannot_be_is_refused_and_nothing_is_left(
    tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(OptionError, match=match):
        export(nn.GRU(4, 8), (X, H), tmp_path / "model.onnx", **{"exporter": "legacy", **options})
    assert list(tmp_path.iterdir()) == []

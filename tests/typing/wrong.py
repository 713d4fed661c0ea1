"""What a type checker must refuse. Each line that is wrong says so; a comment that is not needed is an error too."""

from pathlib import Path

import streamgru

path = Path("model.onnx")
streamgru.load(path, weigths="i8")  # type: ignore[call-overload]
streamgru.load(path, weights="int8")  # type: ignore[call-overload]
streamgru.load(path, mode="hole")  # type: ignore[call-overload]
streamgru.load(path, mode="whole", batch=2)  # type: ignore[call-overload]
streamgru.load(path).stream(nonfinite="ignore")  # type: ignore[arg-type]
streamgru.load(path).stream(blocks=2)  # type: ignore[arg-type]
streamgru.load(path).run("frames")  # type: ignore[arg-type]

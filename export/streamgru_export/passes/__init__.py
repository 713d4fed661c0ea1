"""The passes from an ONNX graph to a step program, one file each."""

"""ONNX operators by what they do with the axes of their operands."""

# Element by element, with broadcasting.
ELEMENTWISE = [
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Sum", "Mean", "PRelu", "Equal", "Less",
    "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor", "Where", "Abs", "Acos", "Asin", "Atan",
    "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
]  # fmt: skip
# Over some axes, given as an attribute or as input 1.
REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp", "ReduceLogSum", "ArgMax", "ArgMin",
]  # fmt: skip
# From a state to the next, over a sequence; and the gates of each.
RECURRENT = {"GRU": 3, "LSTM": 4, "RNN": 1}

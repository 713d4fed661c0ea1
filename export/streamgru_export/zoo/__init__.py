"""The GRU family in PyTorch: models to start from, each with its equations and its source.

`CELLS` holds every cell by name; :class:`CellNet` makes a net of cells.
"""

from .attention import AdditiveAttentionDecoder, DotAttentionDecoder
from .band_gains import BandGains
from .cell import Cell, CellNet
from .classic import BidirectionalClassifier, StackedGRU
from .counterparts import LSTMCell, RNNCell
from .encoder_decoder import Decoder, Encoder, EncoderDecoder, EncoderStep
from .gated import GateDropout, GateDropoutGRUCell, OutputGateGRUCell, ResidualGRUCell
from .gru_cell import CANDIDATES, GRUCell, JointGRUCell
from .gru_net import GRUNet, LSTMNet, RNNNet
from .language_model import LanguageModel
from .normalised import BatchNormGRUCell, LayerNormGRUCell
from .registry import CELLS

__all__ = [
    "CANDIDATES",
    "CELLS",
    "AdditiveAttentionDecoder",
    "BandGains",
    "BatchNormGRUCell",
    "BidirectionalClassifier",
    "Cell",
    "CellNet",
    "Decoder",
    "DotAttentionDecoder",
    "Encoder",
    "EncoderDecoder",
    "EncoderStep",
    "GRUCell",
    "GRUNet",
    "GateDropout",
    "GateDropoutGRUCell",
    "JointGRUCell",
    "LSTMCell",
    "LSTMNet",
    "LanguageModel",
    "LayerNormGRUCell",
    "OutputGateGRUCell",
    "RNNCell",
    "RNNNet",
    "ResidualGRUCell",
    "StackedGRU",
]

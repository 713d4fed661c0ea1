/* All operators by their code in the image. A new operator is one function pair, one line in ops.h and one row here. */
#include "ops.h"

static const sgru_op_def *const table[] = {
    [1] = &sgru_op_copy,
    [2] = &sgru_op_fill,
    [3] = &sgru_op_cast,
    [4] = &sgru_op_gather,
    [5] = &sgru_op_gather_elements,
    [6] = &sgru_op_scatter_elements,
    [7] = &sgru_op_scatter_nd,
    [16] = &sgru_op_unary,
    [17] = &sgru_op_binary,
    [18] = &sgru_op_where,
    [32] = &sgru_op_affine,
    [33] = &sgru_op_matmul,
    [48] = &sgru_op_gru,
    [49] = &sgru_op_lstm,
    [50] = &sgru_op_rnn,
    [64] = &sgru_op_reduce,
    [65] = &sgru_op_softmax,
    [66] = &sgru_op_normalize,
    [67] = &sgru_op_arg,
    [68] = &sgru_op_topk,
    [69] = &sgru_op_cumsum,
    [80] = &sgru_op_conv,
    [81] = &sgru_op_conv_transpose,
    [82] = &sgru_op_pool,
};

const sgru_op_def *sgru_find_op(uint32_t code) { return code < sizeof table / sizeof *table ? table[code] : NULL; }

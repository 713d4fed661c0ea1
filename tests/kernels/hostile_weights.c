/* Matrices of 8 bits that are not what their kernels rely on: each must be refused when the image is opened. */
#include <stdio.h>

#include "image.h"
#include "random.h"

enum { M = 20, K = 30 };

static unsigned passed, failed;

/* An AFFINE of one matrix; its bytes, and where the matrix lies in them. */
static unsigned char *build(int dtype, size_t *size, unsigned char **matrix)
{
    image im = {0};
    float w[M * K];
    uint32_t x_dim = K, y_dim = M;
    for (int i = 0; i < M * K; i++) w[i] = uniform(1.0f);
    uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &x_dim);
    uint32_t y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &y_dim);
    uint32_t in[] = {x, add_packed_as(&im, dtype, M, K, w), SGRU_NONE}, params[] = {1, M, K, 0, 0, 0};
    add_packed_as(&im, dtype, M, K, w); /* another, which nobody reads */
    add_op(&im, 32, 3, in, 1, &y, 6, params);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y);
    uint64_t offset = im.tensors[in[1]].offset;
    unsigned char *bytes = finish(&im, size);
    *matrix = bytes + ((sgru_header *)bytes)->data + offset;
    return bytes;
}

static void expect(const char *what, unsigned char *bytes, size_t size, int want)
{
    sgru_model m;
    ((sgru_header *)bytes)->checksum = sgru_checksum(bytes + 32, size - 32);
    int status = sgru_model_open(&m, bytes, size);
    if (status == want) passed++;
    else printf("%s: %s\n", what, sgru_strerror(status)), failed++;
}

/* The matrix with these bytes in place of its own. */
static void try_bytes(const char *what, size_t at, size_t n, const void *with, int want)
{
    size_t size;
    unsigned char *matrix, *bytes = build(SGRU_I8, &size, &matrix);
    memcpy(matrix + at, with, n);
    expect(what, bytes, size, want);
    free(bytes);
}

/* -128 and the sum that goes with it. */
static void try_lowest(void)
{
    size_t size;
    unsigned char *matrix, *bytes = build(SGRU_I8, &size, &matrix), *at = matrix + sgru_lines_i8(K) * 64;
    int32_t sum;
    memcpy(&sum, at, 4);
    sum += 128 * ((int8_t)matrix[0] + 128);
    matrix[0] = 0x80;
    memcpy(at, &sum, 4);
    expect("a weight of -128", bytes, size, SGRU_E_FORMAT);
    free(bytes);
}

/* The first matrix's record with one number changed. */
static void try_record(const char *what, int dtype, size_t at, size_t n, uint64_t value, int want)
{
    size_t size;
    unsigned char *matrix, *bytes = build(dtype, &size, &matrix);
    memcpy(bytes + ((sgru_header *)bytes)->tensors + 2 * sizeof(sgru_tensor_rec) + at, &value, n);
    expect(what, bytes, size, want);
    free(bytes);
}

int main(void)
{
    const size_t lines = sgru_lines_i8(K), block = sgru_block_step_i8(K), sums = lines * 64, scales = sums + 64;
    const float nan = NAN, infinity = INFINITY, one = 1.0f;
    const int32_t number = 12345;
    rng = 1;
    for (int dtype = SGRU_F32; dtype <= SGRU_I8; dtype += dtype == SGRU_F32 ? 4 : 1)
        try_record("as it is", dtype, 4, 4, 0, SGRU_OK);
    try_bytes("another scale", scales, 4, &one, SGRU_OK);
    try_bytes("an infinite scale", block + scales, 4, &infinity, SGRU_E_FORMAT);
    for (size_t row = 0; row < 32; row++) { /* of both blocks, those beyond the last too */
        size_t at = row / 16 * block + row % 16 * 4;
        try_bytes("a scale that is NaN", at + scales, 4, &nan, SGRU_E_FORMAT);
        try_bytes("a wrong sum", at + sums, 4, &number, SGRU_E_FORMAT);
    }
    try_lowest();
    try_bytes("a weight beyond the last column", (lines - 1) * 64 + 2, 1, "\x01", SGRU_E_FORMAT);
    try_record("a matrix of i64", SGRU_I8, 0, 1, SGRU_I64, SGRU_E_FORMAT);
    try_record("a matrix of bool", SGRU_I8, 0, 1, SGRU_BOOL, SGRU_E_FORMAT);
    try_record("the other matrix's bytes", SGRU_I8, 8, 8, round_up(2 * block, 64), SGRU_E_FORMAT);
    try_record("an offset that is no multiple of 64", SGRU_F32, 8, 8, 32, SGRU_E_FORMAT);
    try_record("an offset beyond the data", SGRU_I8, 8, 8, 1 << 20, SGRU_E_FORMAT);
    try_record("f32 that has the bytes of 8 bits", SGRU_I8, 0, 1, SGRU_F32, SGRU_OK);
    try_record("8 bits that have the bytes of f32", SGRU_F32, 0, 1, SGRU_I8, SGRU_E_FORMAT);
    try_record("another number of columns", SGRU_I8, 20, 4, K - 4, SGRU_E_FORMAT);
    try_record("too many columns", SGRU_I8, 20, 4, SGRU_MAX_K_I8 + 1, SGRU_E_FORMAT);
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}

/* Builds small images in memory for the C tests: docs/format.md as a writer. Not for products: no limits are checked. */
#ifndef TEST_IMAGE_H
#define TEST_IMAGE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "isa.h"
#include "packing.h"

enum { MOST_TENSORS = 128, MOST_OPS = 40, MOST_WORDS = 1024 };

typedef struct image {
    sgru_tensor_rec tensors[MOST_TENSORS];
    sgru_op_rec ops[MOST_OPS];
    uint32_t words[MOST_WORDS], lists[3][MOST_OPS], n_lists[3];
    uint32_t n_tensors, n_ops, n_words;
    uint64_t arena, state, data_size;
    unsigned char *data;
} image;

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline uint32_t add_tensor(image *im, int dtype, int kind, int layout, uint32_t rank, const uint32_t *dims)
{
    sgru_tensor_rec *t = &im->tensors[im->n_tensors];
    *t = (sgru_tensor_rec){.dtype = (uint8_t)dtype,
                           .kind = (uint8_t)kind,
                           .rank = (uint8_t)rank,
                           .layout = (uint8_t)layout,
                           .reset = SGRU_NONE};
    for (uint32_t i = 0; i < SGRU_MAX_RANK; i++) t->dims[i] = i < rank ? dims[i] : 1;
    uint64_t *area = kind == KIND_CONST ? &im->data_size : kind == KIND_ARENA ? &im->arena : &im->state;
    t->offset = *area;
    *area += round_up(bytes_of(t), 64);
    return im->n_tensors++;
}

static inline uint32_t add_const(image *im, int dtype, uint32_t n, const void *values)
{
    uint32_t id = add_tensor(im, dtype, KIND_CONST, LAYOUT_ROWS, 1, &n);
    im->data = realloc(im->data, im->data_size);
    memset(im->data + im->tensors[id].offset, 0, im->data_size - im->tensors[id].offset);
    memcpy(im->data + im->tensors[id].offset, values, n * dtype_size((uint32_t)dtype));
    return id;
}

/* w: [rows][columns] row-major; stored as packed rows of SGRU_F32, SGRU_F16 or SGRU_I8. `stored` gets the values these have, and may
 * be w. */
static inline uint32_t add_weights(image *im, int dtype, uint32_t rows, uint32_t columns, const float *w, float *stored)
{
    uint32_t dims[] = {rows, columns}, id = add_tensor(im, dtype, KIND_CONST, LAYOUT_PACKED, 2, dims);
    im->data = realloc(im->data, im->data_size);
    unsigned char *to = im->data + im->tensors[id].offset;
    memset(to, 0, im->data_size - im->tensors[id].offset);
    if (dtype == SGRU_I8) {
        int8_t *q = malloc((size_t)rows * columns);
        float *scale = malloc(rows * sizeof *scale);
        quantise_rows(rows, columns, w, q, scale), pack_i8(rows, columns, q, scale, to);
        for (size_t i = 0; i < (size_t)rows * columns; i++) stored[i] = (float)q[i] * scale[i / columns];
        free(q), free(scale);
        return id;
    }
    for (uint32_t m = 0; m < rows; m++)
        for (uint32_t k = 0; k < columns; k++) {
            size_t at = packed_at(rows, columns, m, k);
            float w_mk = w[(size_t)m * columns + k];
            uint16_t half = half_of(w_mk);
            if (dtype == SGRU_F16) memcpy(to + 2 * at, &half, 2), w_mk = float_of_half(half);
            else memcpy(to + 4 * at, &w_mk, 4);
            stored[(size_t)m * columns + k] = w_mk;
        }
    return id;
}

static inline uint32_t add_packed_as(image *im, int dtype, uint32_t rows, uint32_t columns, const float *w)
{
    float *stored = malloc((size_t)rows * columns * sizeof *stored);
    uint32_t id = add_weights(im, dtype, rows, columns, w, stored);
    free(stored);
    return id;
}

static inline uint32_t add_packed(image *im, uint32_t rows, uint32_t columns, const float *w)
{
    return add_packed_as(im, SGRU_F32, rows, columns, w);
}

static inline void add_op(image *im, uint16_t code, uint16_t n_in, const uint32_t *in, uint16_t n_out,
                          const uint32_t *out, uint16_t n_params, const uint32_t *params)
{
    im->ops[im->n_ops++] =
        (sgru_op_rec){.code = code, .n_in = n_in, .n_out = n_out, .n_params = n_params, .first = im->n_words};
    memcpy(im->words + im->n_words, in, n_in * 4u);
    memcpy(im->words + im->n_words + n_in, out, n_out * 4u);
    memcpy(im->words + im->n_words + n_in + n_out, params, n_params * 4u);
    im->n_words += (uint32_t)n_in + n_out + n_params;
}

static inline void add_to_list(image *im, int list, uint32_t id) { im->lists[list][im->n_lists[list]++] = id; }

static inline uint64_t place(uint64_t *at, uint64_t size)
{
    uint64_t start = *at;
    *at += round_up(size, 64);
    return start;
}

/* The finished image on a 64-byte boundary; free() it. The builder's data is freed. */
static inline unsigned char *finish(image *im, size_t *size)
{
    sgru_header h = {.magic = {'S', 'G', 'R', 'U', '\r', '\n', 0x1A, '\n'}, .version = 1};
    uint64_t at = 128;
    h.n_tensors = im->n_tensors, h.n_ops = im->n_ops, h.lists = im->n_words, h.strings_size = 1;
    for (int l = 0; l < 3; l++)
        for (uint32_t i = 0; i < im->n_lists[l]; i++) im->words[im->n_words++] = im->lists[l][i];
    h.n_inputs = im->n_lists[0], h.n_outputs = im->n_lists[1], h.n_states = im->n_lists[2], h.n_words = im->n_words;
    h.tensors = place(&at, im->n_tensors * sizeof *im->tensors);
    h.ops = place(&at, im->n_ops * sizeof *im->ops);
    h.words = place(&at, im->n_words * 4u);
    h.strings = place(&at, 1);
    h.json = place(&at, 0);
    h.data = place(&at, im->data_size), h.data_size = im->data_size;
    h.file_size = at;
    unsigned char *bytes = aligned_alloc(64, at);
    memset(bytes, 0, at);
    memcpy(bytes + h.tensors, im->tensors, im->n_tensors * sizeof *im->tensors);
    memcpy(bytes + h.ops, im->ops, im->n_ops * sizeof *im->ops);
    memcpy(bytes + h.words, im->words, im->n_words * 4u);
    if (im->data_size) memcpy(bytes + h.data, im->data, im->data_size);
    memcpy(bytes, &h, sizeof h);
    h.checksum = sgru_checksum(bytes + 32, at - 32);
    memcpy(bytes, &h, sizeof h);
    free(im->data);
    *size = at;
    return bytes;
}

#endif

/* Images with random numbers put in their place, the checksum made right again: opened, and where that succeeds, run. Every one must
 * be refused or do no harm: no access outside the image, the stream and the frames (run it under the address sanitizer, or rely on
 * the fences around each buffer here), no stream of absurd size, an end in reasonable time.
 *
 *     hostile_images [count [seed]] */
#include <stdio.h>

#include "random_gru.h"

enum { FENCE = 64, MOST_MEMORY = 1 << 24, MOST_WORK = 1 << 26 };

/* ---- an image with one of many operators ---- */

static uint32_t arena(image *im, uint32_t n) { return add_tensor(im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, &n); }

static unsigned char *build_many(size_t *size)
{
    image im = {0};
    float w[24 * 8], one = 1.0f;
    int64_t ids[3] = {0, 2, -1};
    for (int i = 0; i < 24 * 8; i++) w[i] = uniform(1.0f);
    uint32_t x = arena(&im, 8), a = arena(&im, 24), b = arena(&im, 24), c = arena(&im, 24), y = arena(&im, 9), s = 0;
    uint32_t n = 24, h = add_tensor(&im, SGRU_F32, KIND_STATE, LAYOUT_ROWS, 1, &n), m = 0;
    uint32_t affine_in[] = {x, add_packed(&im, 24, 8, w), add_const(&im, SGRU_F32, 24, w)},
             affine[] = {1, 24, 8, 1, 0, 0};
    add_op(&im, 32, 3, affine_in, 1, &a, 6, affine);
    uint32_t copy[] = {2, 0, 0, 4, 6, 6, 1, 1, 4};
    add_op(&im, 1, 1, &a, 1, &b, 9, copy);
    uint32_t binary_in[] = {b, h}, binary[] = {0, 2, 4, 6, 6, 1, 6, 1};
    add_op(&im, 17, 2, binary_in, 1, &c, 8, binary);
    uint32_t matmul_in[] = {a, b}, matmul[] = {1, 2, 3, 4, 4, 3, 2, 8, 12};
    m = arena(&im, 12);
    add_op(&im, 33, 2, matmul_in, 1, &m, 9, matmul);
    uint32_t softmax[] = {2, 3, 2, 0};
    s = arena(&im, 12);
    add_op(&im, 65, 1, &m, 1, &s, 4, softmax);
    uint32_t gather_in[] = {s, add_const(&im, SGRU_I64, 3, ids)}, gather[] = {1, 4, 3, 3};
    add_op(&im, 4, 2, gather_in, 1, &y, 4, gather);
    uint32_t unary[] = {2, bits_of(one), bits_of(one)}, keep[] = {1, 0, 0, 24, 1, 1};
    add_op(&im, 16, 1, &y, 1, &y, 3, unary);
    add_op(&im, 1, 1, &c, 1, &h, 6, keep);
    add_to_list(&im, 0, x), add_to_list(&im, 1, y), add_to_list(&im, 2, h);
    return finish(&im, size);
}

/* ---- fenced memory ---- */

static unsigned char *fenced(size_t n)
{
    unsigned char *p = aligned_alloc(64, round_up(n, 64) + 2 * FENCE);
    memset(p, 0xA5, round_up(n, 64) + 2 * FENCE);
    return p + FENCE;
}

static int fences_hold(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < FENCE; i++)
        if (p[i - FENCE] != 0xA5 || p[round_up(n, 64) + i] != 0xA5) return 0;
    return 1;
}

/* The largest product that any operator could loop over, as a bound on time. */
static int is_small(const sgru_model *m)
{
    uint64_t work = 0;
    for (uint32_t i = 0; i < m->n_tensors; i++) work += count_of(tensor_of(m, i));
    return work < MOST_WORK && m->scratch_size < MOST_MEMORY;
}

static unsigned opened, ran;

/* One image: 1 where it did no harm. */
static int survives(const unsigned char *bytes, size_t size)
{
    sgru_model m;
    if (sgru_model_open(&m, bytes, size)) return 1;
    opened++;
    size_t need = sgru_stream_size(&m, 2);
    if (need == 0 || need > MOST_MEMORY || !is_small(&m)) return 1;
    unsigned char *memory = fenced(need), *in[16], *out[16];
    const void *inputs[16];
    int fine = m.n_inputs <= 16 && m.n_outputs <= 16;
    sgru_stream *s = sgru_stream_init(memory, need, &m, 2, SGRU_PASS_NONFINITE);
    sgru_tensor_info info;
    for (uint32_t i = 0; fine && i < m.n_inputs; i++) {
        sgru_tensor(&m, SGRU_INPUT, i, &info);
        inputs[i] = in[i] = calloc(3, info.bytes);
    }
    for (uint32_t i = 0; fine && i < m.n_outputs; i++) {
        sgru_tensor(&m, SGRU_OUTPUT, i, &info);
        out[i] = fenced(3 * info.bytes);
    }
    if (fine) {
        sgru_run(s, 3, inputs, (void *const *)out);
        ran++;
        fine = fences_hold(memory, need);
        for (uint32_t i = 0; i < m.n_inputs; i++) free(in[i]);
        for (uint32_t i = 0; i < m.n_outputs; i++) {
            sgru_tensor(&m, SGRU_OUTPUT, i, &info);
            fine = fine && fences_hold(out[i], 3 * info.bytes);
            free(out[i] - FENCE);
        }
    } else {
        fine = 1;
    }
    free(memory - FENCE);
    return fine;
}

/* A word of the header, a record or the words becomes a number of interest or a neighbour of what it was. */
static void alter(unsigned char *bytes, size_t size)
{
    static const uint32_t interesting[] = {0,   1,          2,          7,          8,          16,     64,
                                           255, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x10000};
    const sgru_header *h = (const sgru_header *)bytes;
    uint64_t tables = h->data < size ? h->data : size;
    for (uint32_t changes = 1 + below(3); changes; changes--) {
        uint64_t at = 32 + 4 * below((uint32_t)(tables - 32) / 4);
        uint32_t word;
        memcpy(&word, bytes + at, 4);
        switch (below(4)) {
        case 0: word = interesting[below(13)]; break;
        case 1: word += 1 + below(8); break;
        case 2: word -= 1 + below(8); break;
        default: word ^= 1u << below(32);
        }
        memcpy(bytes + at, &word, 4);
    }
}

static void make_checksum_right(unsigned char *bytes, size_t size)
{
    uint64_t sum = sgru_checksum(bytes + 32, size - 32);
    memcpy(bytes + 24, &sum, 8);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 20000, failures = 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    unsigned char *original = NULL, *copy = NULL;
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        if (i % 50 == 0) {
            gru c = random_gru();
            c.H = c.H > 20 ? 20 : c.H, c.I = c.I > 20 ? 20 : c.I;
            free(original), free(copy);
            original = i % 100 ? build_many(&size) : build(&c, 1 + below(2), 0, c.B, (int)c.has_lens, &size);
            copy = aligned_alloc(64, size);
            drop(&c);
            if (!survives(original, size) || sgru_model_open(&(sgru_model){0}, original, size)) failures++;
        }
        memcpy(copy, original, size);
        alter(copy, size);
        make_checksum_right(copy, size);
        if (!survives(copy, size)) printf("image %u does harm\n", i), failures++;
        size_t shorter = below((uint32_t)size / 64) * 64;
        if (sgru_model_open(&(sgru_model){0}, original, shorter) == SGRU_OK)
            printf("image %u: %zu bytes open\n", i, shorter), failures++;
    }
    free(original), free(copy);
    printf("seed %llu: %u opened, %u ran\n%u passed, %u failed\n", (unsigned long long)seed, opened, ran, count,
           failures);
    return failures != 0 || ran == 0;
}

/* Fuzzes saved states: bytes are restored into a stream of one of several models. What is refused leaves the state as it was; what
 * is accepted is the state that saves to the same bytes, and the frames after it give the same bits on every instruction set.
 *
 * The first byte chooses the model and the stream's flags; the rest is the blob. The mutator starts from blobs that a stream saved, and
 * mostly makes the head right again: magic, model, checksum, size. */
#include "random_operator.h"

enum { MODELS = 12, HEAD = 32 };

static struct {
    sgru_model model;
    unsigned char *memory;
    size_t need;
} models[MODELS];

/* GRUs, an LSTM, an RNN and others that write states of any dtype. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const uint16_t codes_of_states[MODELS] = {48, 48, 48, 48, 49, 50, 1, 3, 6, 16, 17, 64};
    (void)argc, (void)argv;
    rng = 20261121;
    for (unsigned i = 0; i < MODELS;) {
        size_t size;
        unsigned char *bytes = make(codes_of_states[i], &size);
        if (sgru_model_open(&models[i].model, bytes, size) || !models[i].model.n_states) {
            free(bytes);
            continue;
        }
        models[i].need = sgru_stream_size(&models[i].model, 1);
        models[i].memory = aligned_alloc(64, models[i].need);
        i++;
    }
    return 0;
}

static sgru_stream *stream_of(unsigned i, const char *isa, unsigned flags)
{
    if (use_isa(isa)) abort();
    sgru_stream *s = sgru_stream_init(models[i].memory, models[i].need, &models[i].model, 1, flags);
    rng = 1, choices = choices_end = NULL;
    for (uint32_t j = 0; j < models[i].model.n_inputs; j++) {
        sgru_tensor_info info;
        sgru_tensor(&models[i].model, SGRU_INPUT, j, &info);
        fill((uint32_t)info.dtype, info.bytes / dtype_size((uint32_t)info.dtype), sgru_input(s, j));
    }
    return s;
}

static uint8_t *saved(const sgru_stream *s)
{
    size_t size = sgru_save_size(s->model);
    uint8_t *blob = malloc(size);
    if (sgru_save(s, blob, size)) abort();
    return blob;
}

/* Restores, and takes two steps; what the stream then saves. */
static uint8_t *restored(unsigned i, const char *isa, unsigned flags, const uint8_t *blob, size_t size)
{
    sgru_stream *s = stream_of(i, isa, flags);
    uint8_t *before = saved(s), *after;
    int status = sgru_restore(s, blob, size);
    after = saved(s);
    if (status != SGRU_OK && status != SGRU_E_STATE) abort();
    if (status && memcmp(before, after, sgru_save_size(s->model))) abort();
    if (!status && !flags && memcmp(blob, after, size)) abort();
    free(before), free(after);
    sgru_step_inplace(s), sgru_step_inplace(s);
    return saved(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    unsigned i = *data / 2 % MODELS, flags = *data & 1 ? SGRU_PASS_NONFINITE : 0;
    size_t n = size - 1;
    uint8_t *blob = malloc(n ? n : 1), *want; /* of its exact size, at no multiple of anything but what malloc gives */
    memcpy(blob, data + 1, n);
    want = restored(i, "ref", flags, blob, n);
    for (unsigned k = 0; isa_at(k); k++) {
        uint8_t *got = restored(i, isa_at(k), flags, blob, n);
        if (memcmp(want, got, sgru_save_size(&models[i].model))) abort();
        free(got);
    }
    free(want), free(blob);
    return 0;
}

/* ---- the mutator ---- */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    uint64_t choice = seed * 0x9E3779B97F4A7C15u >> 32;
    unsigned i = (size && choice % 16 ? *data : choice >> 8) / 2 % MODELS;
    size_t whole = sgru_save_size(&models[i].model), state = whole - HEAD;
    if (whole + 1 > max_size) return LLVMFuzzerMutate(data, size, max_size);
    if (size != whole + 1 || choice % 16 == 0) { /* what a stream saved */
        sgru_stream *s = stream_of(i, "", 0);
        for (unsigned steps = choice >> 16 & 3; steps; steps--) sgru_step_inplace(s);
        *data = (uint8_t)(2 * i + (choice >> 24 & 1));
        sgru_save(s, data + 1, whole);
        size = whole + 1;
    }
    if (choice >> 4 & 7) {
        float edges[] = {NAN, INFINITY, 0x1p-149f, -0.0f, 0x1.fffffep127f, 0x1p-64f, -1e-40f, 1.0f};
        size_t at = (choice >> 7) % (state / 4) * 4;
        if (choice >> 3 & 1) memcpy(data + 1 + HEAD + at, &edges[choice >> 20 & 7], 4);
        else LLVMFuzzerMutate(data + 1 + HEAD + at, state - at, state - at);
        uint64_t sum = sgru_checksum(data + 1 + HEAD, state);
        memcpy(data + 1 + 16, &sum, 8);
        return size;
    }
    return LLVMFuzzerMutate(data, size, max_size);
}

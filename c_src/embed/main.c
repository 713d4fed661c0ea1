/* Replays the recorded steps of a model and compares every output with what the host computed, bit for bit. It ends with
 * PASS and exit code 0, or with FAIL and 1. It is an example too: no more than this is needed to run a model. */
#include <stdio.h>
#include <string.h>

#include "model.h"
#include "streamgru.h"

static sgru_model model;
static MODEL_ALIGNED unsigned char memory[MODEL_STREAM_SIZE];

/* "name: n bytes", by puts alone: printf is larger than a small model. */
static void tell_size(const char *name, size_t n)
{
    char line[64], digits[24], *digit = digits + sizeof digits;
    strcpy(line, name);
    *--digit = 0;
    do *--digit = (char)('0' + n % 10);
    while (n /= 10);
    strcat(strcat(line, digit), " bytes");
    puts(line);
}

static size_t words_of(size_t bytes) { return (bytes + 7) / 8; }

/* The tensors of one frame, each on whole words; where they end. */
static const uint64_t *put_inputs(sgru_stream *stream, const uint64_t *at)
{
    sgru_tensor_info info;
    for (uint32_t i = 0; i < model.n_inputs; i++) {
        (void)sgru_tensor(&model, SGRU_INPUT, i, &info);
        memcpy(sgru_input(stream, i), at, info.bytes);
        at += words_of(info.bytes);
    }
    return at;
}

/* ... NULL where an output differs. */
static const uint64_t *compare_outputs(sgru_stream *stream, const uint64_t *at)
{
    sgru_tensor_info info;
    for (uint32_t i = 0; i < model.n_outputs; i++) {
        (void)sgru_tensor(&model, SGRU_OUTPUT, i, &info);
        if (memcmp(sgru_output(stream, i), at, info.bytes) != 0) return NULL;
        at += words_of(info.bytes);
    }
    return at;
}

static const char *replay(void)
{
    const uint64_t *at = model_recording;
    int status = sgru_model_open(&model, model_image, MODEL_IMAGE_SIZE);
    if (status) return sgru_strerror(status);
    sgru_stream *stream = sgru_stream_init(memory, sizeof memory, &model, 1, 0);
    if (!stream) return sgru_strerror(SGRU_E_MEMORY);
    tell_size("image: ", model.image_size);
    tell_size("stream: ", sgru_stream_size(&model, 1));
    for (int step = 0; step < MODEL_RECORDED_STEPS; step++) {
        at = put_inputs(stream, at);
        if ((status = sgru_step_inplace(stream))) return sgru_strerror(status);
        if (!(at = compare_outputs(stream, at))) return "an output differs from the host's";
    }
    return NULL;
}

int main(void)
{
    const char *error = replay();
    if (error) puts(error);
    puts(error ? "FAIL" : "PASS");
    return error != NULL;
}

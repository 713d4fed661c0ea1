/* Steps an image over frames from a file and writes what comes out: for a comparison of machines, memcmp by memcmp. Not a test by
 * itself: tests/test_other_machines.py makes the files.
 *
 *     replay IMAGE FRAMES RESULTS [ISA]
 *
 * FRAMES holds for each step every input, one after the other; RESULTS gets every output likewise, and the saved state last. */
#include <stdio.h>
#include <stdlib.h>

#include "streamgru.h"

enum { MOST = 64 };

static void *memory_for(size_t size) { return aligned_alloc(64, (size + 63) / 64 * 64 + 64); }

static int fail(const char *what)
{
    fprintf(stderr, "replay: %s\n", what);
    return 1;
}

static void *file_of(const char *name, size_t *size)
{
    FILE *file = fopen(name, "rb");
    if (!file || fseek(file, 0, SEEK_END)) return NULL;
    *size = (size_t)ftell(file);
    rewind(file);
    void *data = memory_for(*size);
    if (data && fread(data, 1, *size, file) != *size) data = NULL;
    fclose(file);
    return data;
}

/* Bytes of each input or output, and of them all. */
static size_t sizes_of(const sgru_model *model, int kind, uint32_t count, size_t *bytes)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < count; sum += bytes[i++]) {
        sgru_tensor_info info;
        if (sgru_tensor(model, kind, i, &info)) return 0;
        bytes[i] = info.bytes;
    }
    return sum;
}

int main(int argc, char **argv)
{
    if (argc < 4) return fail("replay IMAGE FRAMES RESULTS [ISA]");
    size_t image_size, frames_size, bytes_in[MOST], bytes_out[MOST];
    const void *image = file_of(argv[1], &image_size);
    const unsigned char *frames = file_of(argv[2], &frames_size);
    FILE *results = fopen(argv[3], "wb");
    sgru_model model;
    if (!image || !frames || !results) return fail("a file cannot be opened");
    if (sgru_set_isa(argc > 4 ? argv[4] : NULL)) return fail("this machine does not have that instruction set");
    int status = sgru_model_open(&model, image, image_size);
    if (status || model.n_inputs > MOST || model.n_outputs > MOST) return fail(sgru_strerror(status));

    size_t size = sgru_stream_size(&model, 1), in = sizes_of(&model, SGRU_INPUT, model.n_inputs, bytes_in);
    size_t out = sizes_of(&model, SGRU_OUTPUT, model.n_outputs, bytes_out);
    sgru_stream *stream = sgru_stream_init(memory_for(size), size, &model, 1, 0);
    unsigned char *outputs = memory_for(out), *state = memory_for(sgru_save_size(&model));
    if (!stream || !outputs || !state || in == 0) return fail("no memory");
    for (size_t at = 0; at + in <= frames_size; at += in) {
        const void *from[MOST];
        void *to[MOST];
        const unsigned char *x = frames + at;
        unsigned char *y = outputs;
        for (uint32_t i = 0; i < model.n_inputs; x += bytes_in[i++]) from[i] = x;
        for (uint32_t i = 0; i < model.n_outputs; y += bytes_out[i++]) to[i] = y;
        if ((status = sgru_step(stream, from, to))) return fail(sgru_strerror(status));
        if (fwrite(outputs, 1, out, results) != out) return fail("the results cannot be written");
    }
    size_t saved = sgru_save_size(&model);
    if (sgru_save(stream, state, saved) || fwrite(state, 1, saved, results) != saved) return fail("no state");
    printf("%s\n", sgru_stream_isa(stream));
    return fclose(results);
}

/* Fuzzes every instruction set against `ref`: the fuzzer's bytes are the choices that make a valid operator, its shapes, the block
 * and the frames (random.h). Outputs, state and status must be the same, bit for bit. Half of the time numbers of the image are altered
 * before. */
#include "random_operator.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    rng = 88172645463325252u, choices = data, choices_end = data + size;
    uint16_t code = codes[below(N_OPERATORS)];
    size_t image_size;
    unsigned char *bytes = make(code, &image_size);
    if (below(2)) {
        for (uint32_t changes = 1 + below(3); changes; changes--) alter(bytes);
        ((sgru_header *)bytes)->checksum = sgru_checksum(bytes + 32, image_size - 32);
    }
    sgru_model m;
    if (!sgru_model_open(&m, bytes, image_size)) judge(code, &m);
    free(bytes);
    if (failed) abort();
    return 0;
}

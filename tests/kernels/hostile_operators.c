/* Every operator with random operands (random_operator.h), then with numbers of its record, its words and its tensors altered.
 * What the core accepts must do no harm: under the address sanitizer all bytes of the arena between the operands are poisoned.
 * Where outputs share no bytes with other operands, every instruction set and every block must give the same bits and the same
 * status; after an error the state is what it was.
 *
 *     hostile_operators [count [seed]]     count images of each operator */
#include "random_operator.h"

static unsigned refused;

int main(int argc, char **argv)
{
    unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 300;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    rng = seed * 0x9E3779B97F4A7C15u + 1;
    for (uint32_t o = 0; o < N_OPERATORS; o++)
        for (unsigned i = 0; i < count; i++) {
            size_t size;
            sgru_model m;
            unsigned before = failed;
            unsigned char *bytes = make(codes[o], &size), *copy = aligned_alloc(64, size);
            int status = sgru_model_open(&m, bytes, size);
            if (status && codes[o] != 17) printf("operator %u: %s\n", codes[o], sgru_strerror(status)), failed++;
            if (!status) judge(codes[o], &m);
            for (int j = 0; j < 16; j++) {
                memcpy(copy, bytes, size);
                for (uint32_t changes = 1 + below(3); changes; changes--) alter(copy);
                ((sgru_header *)copy)->checksum = sgru_checksum(copy + 32, size - 32);
                if (sgru_model_open(&m, copy, size)) refused++;
                else judge(codes[o], &m);
            }
            free(bytes), free(copy);
            passed += failed == before;
        }
    printf(
        "seed %llu: %u refused, %u ran, of these %u with an index and %u with a number out of range, %u the same with\n"
        "infinities let through; the longest %.2f s\n"
        "%u passed, %u failed\n",
        (unsigned long long)seed, refused, ran, ended[SGRU_E_INDEX], ended[SGRU_E_NONFINITE], kept, longest, passed,
        failed);
    return failed != 0 || ran == 0 || kept == 0;
}

/* Fuzzes the security border: bytes are opened as an image and, where that succeeds, described, run in every way, saved and
 * restored. The bytes between the arena's tensors are poisoned, so that a step that leaves its tensors is seen at once.
 *
 * The mutator knows the format: it starts from valid images of one to three random operators, alters, repeats and adds
 * records and words, and makes sizes and checksum right again, so that what arrives passes the outer checks. */
#include "random_operator.h"

enum { MOST_BYTES = 1 << 18 };

static unsigned char *aligned_copy(const uint8_t *data, size_t size)
{
    unsigned char *bytes = aligned_alloc(64, round_up(size ? size : 1, 64));
    memcpy(bytes, data, size);
    ASAN_POISON_MEMORY_REGION(bytes + size, round_up(size ? size : 1, 64) - size);
    return bytes;
}

static void describe(const sgru_model *m)
{
    sgru_tensor_info info;
    size_t sum = 0;
    for (int kind = SGRU_INPUT; kind <= SGRU_STATE; kind++)
        for (uint32_t i = 0; !sgru_tensor(m, kind, i, &info); i++) sum += strlen(info.name) + info.bytes;
    for (uint32_t i = 0; i < m->n_ops; i++) { /* the names of the nodes, for error messages */
        const sgru_op_rec *rec = (const sgru_op_rec *)(m->image + header_of(m)->ops) + i;
        sum += strlen((const char *)m->image + header_of(m)->strings + rec->name);
    }
    if (sum == SIZE_MAX) abort();
}

/* A step in place on zeros and ones, a save, three steps in blocks of two, and back: the same bits again. */
static void run_all(const sgru_model *m, const char *isa)
{
    size_t need = sgru_stream_size(m, 2), blob_size = sgru_save_size(m);
    unsigned char *memory = aligned_alloc(64, need), *blob = malloc(blob_size), *again = malloc(blob_size);
    if (use_isa(isa)) abort();
    sgru_stream *s = sgru_stream_init(memory, need, m, 2, SGRU_PASS_NONFINITE);
    if (!s) abort();
    fence(m, s->arena, 2);
    for (uint32_t i = 0; i < m->n_inputs; i++) {
        sgru_tensor_info info;
        sgru_tensor(m, SGRU_INPUT, i, &info);
        fill((uint32_t)info.dtype, info.bytes / dtype_size((uint32_t)info.dtype), sgru_input(s, i));
    }
    sgru_step_inplace(s);
    if (sgru_save(s, blob, blob_size) || sgru_restore(s, blob, blob_size)) abort();
    sgru_step_inplace(s);
    if (sgru_restore(s, blob, blob_size) || sgru_save(s, again, blob_size)) abort();
    if (memcmp(blob, again, blob_size)) abort();
    sgru_reset(s);
    ASAN_UNPOISON_MEMORY_REGION(memory, need);
    free(memory), free(blob), free(again);
}

static int is_small(const sgru_model *m)
{
    uint64_t io = 0, work = 0;
    for (uint32_t i = 0; i < m->n_inputs + m->n_outputs; i++)
        io += bytes_of(tensor_of(m, words_of(m)[header_of(m)->lists + i]));
    for (uint32_t i = 0; i < m->n_ops; i++) {
        sgru_op op = op_of(m, i);
        uint64_t product = 1; /* of the operands' elements: no operator does more */
        for (uint32_t j = 0; j < op.n_in + op.n_out; j++)
            if (op.in[j] != SGRU_NONE && product < (uint64_t)1 << 40) product *= count_of(tensor_of(m, op.in[j]));
        work += product;
    }
    size_t need = sgru_stream_size(m, 2);
    return need && need < MOST_BYTES && io < MOST_BYTES && work < (uint64_t)1 << 40;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes = aligned_copy(data, size);
    sgru_model m;
    rng = 88172645463325252u, choices = choices_end = NULL;
    if (!sgru_model_open(&m, bytes, size)) {
        describe(&m);
        if (is_small(&m))
            for (unsigned k = 0; isa_at(k); k++) run_all(&m, isa_at(k));
    }
    ASAN_UNPOISON_MEMORY_REGION(bytes, round_up(size ? size : 1, 64));
    free(bytes);
    if (failed) abort();
    return 0;
}

/* ---- the mutator ---- */

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

static size_t fresh(uint8_t *data, size_t max_size)
{
    size_t size;
    image im = {0};
    for (uint32_t n = 1 + below(3); n; n--) add_random(&im, codes[below(N_OPERATORS)]);
    unsigned char *bytes = finish(&im, &size);
    if (size > max_size) size = 0;
    memcpy(data, bytes, size);
    free(bytes);
    return size;
}

/* Copies one record or a few words over others: operators in a row, tensors of the same bytes. */
static void repeat(uint8_t *data, uint64_t section, uint32_t count, size_t each, size_t size)
{
    uint64_t from = section + each * (count ? below(count) : 0), to = section + each * (count ? below(count) : 0);
    if (from <= size - each && to <= size - each) memmove(data + to, data + from, each);
}

/* Makes place for one more record: whatever lies behind moves on by 64 bytes, and every section behind with it. */
static size_t insert(uint8_t *data, size_t size, size_t max_size, uint64_t *at, uint64_t wanted)
{
    sgru_header *h = (sgru_header *)data;
    uint64_t *sections[] = {&h->tensors, &h->ops, &h->words, &h->strings, &h->json, &h->data};
    uint64_t end = round_up(*at + wanted, 64);
    if (size + 64 > max_size || end > size || end < 128) return size;
    memmove(data + end + 64, data + end, size - end);
    memset(data + end, 0, 64);
    for (int i = 0; i < 6; i++)
        if (sections[i] != at && *sections[i] >= end) *sections[i] += 64;
    return size + 64;
}

static size_t mutate(uint8_t *data, size_t size, size_t max_size)
{
    sgru_header *h = (sgru_header *)data;
    uint64_t tables = h->data >= 128 && h->data <= size ? h->data : size;
    switch (below(9)) {
    case 0: /* a record more */
        if (below(2)) size = insert(data, size, max_size, &h->tensors, h->n_tensors * 64ull), h->n_tensors++;
        else size = insert(data, size, max_size, &h->ops, h->n_ops * 32ull), h->n_ops++;
        break;
    case 1: /* a record again */
        if (below(2)) repeat(data, h->tensors, h->n_tensors, 64, size);
        else repeat(data, h->ops, h->n_ops, 32, size);
        break;
    case 2: repeat(data, h->words, h->n_words, 4, size); break;
    case 3: { /* a word of the header, or one of what it counts */
        uint32_t *words = (uint32_t *)data + 8, at = below(24);
        words[at] = altered(words[at]);
        break;
    }
    case 4: return 64 * (LLVMFuzzerMutate(data, size, max_size) / 64);
    case 5: /* a part of the tables, as the fuzzer likes */
        if (tables > 128) {
            uint64_t from = 128 + below((uint32_t)(tables - 128)), n = 1 + below(32);
            if (from + n <= tables) LLVMFuzzerMutate(data + from, n, n);
        }
        break;
    default:
        if (tables > 128 + 4) {
            uint8_t *at = data + 128 + 4 * below((uint32_t)(tables - 128) / 4);
            uint32_t word;
            memcpy(&word, at, 4);
            word = altered(word), memcpy(at, &word, 4);
        }
    }
    return size;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    rng = seed * 0x9E3779B97F4A7C15u + 1, choices = choices_end = NULL;
    size = size / 64 * 64;
    if (size < 192 || below(32) == 0) size = fresh(data, max_size);
    for (uint32_t changes = 1 + below(3); changes && size >= 192; changes--) size = mutate(data, size, max_size);
    if (size < 128) return size;
    sgru_header *h = (sgru_header *)data;
    if (below(16)) h->file_size = size;
    h->checksum = sgru_checksum(data + 32, size - 32);
    return size;
}

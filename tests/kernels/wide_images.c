/* Images whose sizes need more than 32 bits: each is refused, or states the memory that it needs. On a machine with a 32-bit size_t a
 * product that wraps around would make a small buffer of a large one.
 *
 *     wide_images */
#include "trial.h"

static uint32_t add_unbacked(image *im, int dtype, int kind, int layout, uint32_t rank, const uint32_t *dims)
{
    sgru_tensor_rec *t = &im->tensors[im->n_tensors];
    *t = (sgru_tensor_rec){.dtype = (uint8_t)dtype,
                           .kind = (uint8_t)kind,
                           .rank = (uint8_t)rank,
                           .layout = (uint8_t)layout,
                           .reset = SGRU_NONE};
    for (uint32_t i = 0; i < SGRU_MAX_RANK; i++) t->dims[i] = i < rank ? dims[i] : 1;
    return im->n_tensors++;
}

/* `least`: bytes that a stream of `block` frames must have, 0 where nobody may open the image. */
static void judge(const char *what, image *im, size_t block, uint64_t least)
{
    size_t size;
    sgru_model m;
    unsigned char *bytes = finish(im, &size);
    size_t need = sgru_model_open(&m, bytes, size) ? 0 : sgru_stream_size(&m, block);
    if (need == 0 || (least && need >= least)) passed++;
    else printf("%s: a stream of %zu bytes, needed are %llu\n", what, need, (unsigned long long)least), failed++;
    free(bytes);
}

static void try_tensors(void)
{
    uint32_t wide[] = {(1u << 30) + 1}, row[] = {1, (1u << 30) + 1}, large[] = {0x3FFFFFFF}, small[] = {64}, id,
             bits[] = {0, 0};
    image im = {0};
    id = add_unbacked(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, wide);
    add_op(&im, 2, 0, bits, 1, &id, 2, bits);
    judge("2^30 + 1 floats", &im, 1, (uint64_t)4 << 30);
    im = (image){0};
    float some[64] = {0};
    add_const(&im, SGRU_F32, 64, some);
    add_unbacked(&im, SGRU_F32, KIND_CONST, LAYOUT_PACKED, 2, row);
    judge("a packed row of 2^30 + 1 columns in 256 bytes", &im, 1, 0);
    for (size_t block = 1; block < (size_t)1 << 24; block = 2 * block + 1) {
        im = (image){0};
        add_to_list(&im, 2, add_unbacked(&im, SGRU_I8, KIND_STATE, LAYOUT_ROWS, 1, large));
        add_to_list(&im, 0, add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 1, small));
        judge("a state of 1 GB", &im, block, ((uint64_t)2 << 30) + 256 * (uint64_t)block);
    }
}

/* One element of input, a window that moves far: planes of 2^32 elements and some. */
static void try_planes(void)
{
    uint32_t OH = 1024, k = 44, one[] = {1, 1, 1, 1}, w_dims[] = {1, 1, k, k}, y_dims[] = {1, 1, OH, OH};
    for (uint32_t dilation = 1; dilation < 8; dilation++) {
        uint64_t span = 1023 * 64 + (uint64_t)(k - 1) * dilation + 1;
        for (int pool = 0; pool < 2; pool++) {
            image im = {0};
            uint32_t x = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 4, one),
                     w = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 4, w_dims),
                     y = add_tensor(&im, SGRU_F32, KIND_ARENA, LAYOUT_ROWS, 4, y_dims), in[] = {x, w, SGRU_NONE};
            uint32_t conv[] = {1, 1, 1, 1, 1, OH, OH, 1, k, k, 64, 64, 0, 0, dilation, dilation, 0, 0, 0};
            uint32_t window[] = {0, 1, 1, 1, 1, OH, OH, k, k, 64, 64, 0, 0, dilation, dilation, 0, 0, 0};
            if (pool) add_op(&im, 82, 1, in, 1, &y, 18, window);
            else add_op(&im, 80, 3, in, 1, &y, 19, conv);
            add_to_list(&im, 0, x), add_to_list(&im, 1, y);
            judge(pool ? "POOL" : "CONV", &im, 1, 4 * span * span);
        }
    }
}

int main(void)
{
    try_tensors();
    try_planes();
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}

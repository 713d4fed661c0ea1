/* What an operator's check must refuse, and what it must let pass, one number beside the other: for each operator an image that is
 * right, and changes of it. docs/format.md says what is right.
 *
 *     refusals */
#include <stdio.h>

#include "image.h"

static unsigned passed, failed;

typedef struct operand {
    uint8_t dtype, kind, layout, rank; /* dtype 0: absent */
    uint32_t dims[SGRU_MAX_RANK];
} operand_of_test;

#define ABSENT {0, 0, 0, 0, {0}}
#define ARENA(dtype, rank, ...)                                                                                        \
    {                                                                                                                  \
        dtype, KIND_ARENA, LAYOUT_ROWS, rank, { __VA_ARGS__ }                                                          \
    }
#define CONST(dtype, rank, ...)                                                                                        \
    {                                                                                                                  \
        dtype, KIND_CONST, LAYOUT_ROWS, rank, { __VA_ARGS__ }                                                          \
    }
#define PACKED(rows, columns)                                                                                          \
    {                                                                                                                  \
        SGRU_F32, KIND_CONST, LAYOUT_PACKED, 2, { rows, columns }                                                      \
    }
enum { F = SGRU_F32, I64 = SGRU_I64, I32 = SGRU_I32, BOOL = SGRU_BOOL };

/* Changes are separated by commas; those of one image by spaces. A change is a letter, a number, = and a value:
 *     p parameter, n (and 0) their number, o the tensor of an operand (none: absent), i its id, t its dtype, k its kind, l its layout, r its
 *     rank, w x y z its dimensions, s the operand whose place it takes, a bytes that it moves from there */
typedef struct example {
    const char *name;
    uint16_t code, n_in, n_out, n;
    operand_of_test operands[12];
    uint32_t p[32];
    const char *refused, *accepted;
} example;

/* clang-format off */
static const example examples[] = {
    {"COPY", 1, 1, 1, 6, {ARENA(F, 1, 10), ARENA(F, 1, 10)}, {1, 1, 2, 4, 2, 1},
     "p0=0, p0=2, p0=9, n0=5, n0=7, p1=4, p1=-1, p2=7, p2=-1, p3=0, p3=6, p4=3, p4=-1, p5=3, p5=-3, w0=7, w1=5,"
     "o0=none, o1=none, t0=2, t0=3, t1=3, t0=4, k0=0 l0=1 r0=2 w0=12 x0=1,"
     "p0=9 n0=30 p1=0 p2=0 p3=1 p4=1 p5=1, p3=11 p4=0 p5=0",
     "p1=3, p2=6, p3=10 p4=0 p5=0, p3=5, p4=-1 p1=3, p4=0, p5=0, p5=2, w0=8, w1=6, t0=2 t1=2, t0=5 t1=5, s1=0, k0=0,"
     "p0=8 n0=27 p1=0 p2=0 p3=1 p4=1 p5=1, p0=0 n0=3"},
    {"FILL", 2, 0, 1, 2, {ARENA(F, 1, 10)}, {7, 0}, "o0=none, n0=1, n0=3", "t0=4, t0=2, w0=1"},
    {"CAST", 3, 1, 1, 0, {ARENA(F, 1, 8), ARENA(I64, 1, 8)}, {0},
     "w0=7, w0=9, w1=7, o0=none, o1=none, t0=5, t0=6, t1=5, t1=6, s1=0, k0=0 l0=1 r0=2 x0=1",
     "t0=2, t0=3, t0=4, t1=1, t1=4, r0=2 w0=4 x0=2"},
    {"GATHER", 4, 2, 1, 4, {ARENA(F, 3, 2, 5, 3), ARENA(I64, 1, 4), ARENA(F, 3, 2, 4, 3)}, {2, 5, 3, 4},
     "p0=1, p0=3, p1=4, p1=6, p2=2, p2=4, p3=3, p3=5, w1=3, w1=5, p3=3 w1=3, t1=1, t1=4, t2=2, t0=3, o0=none, o1=none, o2=none,"
     "k0=0 l0=1 r0=2 w0=30 x0=1 p0=32, s2=0, p0=0, p1=0",
     "t1=3, t0=4 t2=4, t0=2 t2=2, p3=3 w1=3 x2=3, r1=2 w1=2 x1=2"},
    {"GATHER_ELEMENTS", 5, 2, 1, 1, {ARENA(F, 2, 4, 5), ARENA(I64, 2, 4, 7), ARENA(F, 1, 28)}, {1},
     "p0=0, p0=2, p0=-1, w1=5 w2=35, r1=1 w2=4, r0=1, w2=27, w2=29, t2=2, t1=1, t1=4, o0=none, o1=none, o2=none, s2=0, s2=1",
     "w1=3 w2=21, t1=3, t0=4 t2=4, p0=0 w1=7 x1=5 w2=35"},
    {"GATHER_ELEMENTS of every rank", 5, 2, 1, 1,
     {ARENA(F, 8, 2, 1, 1, 1, 1, 1, 1, 3), ARENA(I64, 8, 2, 1, 1, 1, 1, 1, 1, 3), ARENA(F, 1, 6)}, {7}, "w2=5, p0=8, w1=3 w2=9",
     "p0=0, p0=3, p0=0 w1=4 w2=12"},
    {"SCATTER_ELEMENTS", 6, 3, 1, 2, {ARENA(F, 2, 4, 5), ARENA(I64, 2, 4, 7), ARENA(F, 1, 28), ARENA(F, 1, 20)}, {1, 0},
     "p1=5, p0=0, p0=2, p0=-1, w1=5 w2=35, w2=27, w2=29, w3=19, w3=21, t1=1, t2=2, t3=2, t0=2, t0=4 t2=4 t3=4 p1=1,"
     "t0=5 t2=5 t3=5 p1=4, o0=none, o1=none, o2=none, o3=none, s3=0, s3=2",
     "p1=4, t0=4 t2=4 t3=4, t0=2 t2=2 t3=2 p1=1, t0=3 t2=3 t3=3 p1=3, t1=3, w1=3 w2=21"},
    {"SCATTER_ND", 7, 3, 1, 1, {ARENA(F, 3, 4, 5, 2), ARENA(I64, 2, 3, 2), ARENA(F, 1, 6), ARENA(F, 1, 40)}, {0},
     "p0=5, w2=5, w2=7, w3=39, w3=41, r1=0, x1=4 w2=3, t1=1, t2=2, t3=3, t0=4 t2=4 t3=4 p0=2, o0=none, o1=none, o2=none,"
     "o3=none, s3=0",
     "p0=4, x1=3 w2=3, x1=1 w2=30, t0=4 t2=4 t3=4, t1=3, r1=1 w2=10 w1=2 x1=1 w2=2 r1=2 x1=3"},
    {"SCATTER_ND of every rank", 7, 3, 1, 1, {ARENA(F, 8, 2, 1, 1, 1, 1, 1, 1, 3), ARENA(I64, 2, 4, 1), ARENA(F, 1, 12), ARENA(F, 1, 6)},
     {0}, "w2=11, w2=13, x1=9 w2=3, r0=7", "p0=1, x1=8 w2=4, x1=7"},
    {"UNARY", 16, 1, 1, 3, {ARENA(F, 1, 8), ARENA(F, 1, 8)}, {1, 0, 0},
     "p0=30, p0=35, p0=36, p0=37, p0=64, p0=-1, n0=2, o0=none, o1=none, w0=7, w1=7, w1=9, t0=2, t1=2, t0=2 t1=2, t0=3 t1=3 p0=19,"
     "t0=4 t1=4 p0=17, t0=4 t1=4, t0=5 t1=5, t0=6 t1=6 p0=17, k0=0 l0=1 r0=2 x0=1, s1=0 a1=4, t0=2 t1=2 p0=30",
     "p0=0, p0=34, p0=29, p0=31, t0=2 t1=2 p0=17, t0=2 t1=2 p0=18, t0=3 t1=3 p0=17, t0=3 t1=3 p0=18,"
     "t0=4 t1=4 p0=30, s1=0, r0=2 w0=4 x0=2"},
    {"BINARY", 17, 2, 1, 8, {ARENA(F, 1, 12), ARENA(F, 1, 4), ARENA(F, 1, 12)}, {0, 2, 3, 4, 4, 1, 0, 1},
     "p1=0 n0=2, p1=1, p1=3, n0=7, n0=9, p0=10, p0=15, p0=16, p0=20, p0=21, p0=24, p0=26, p0=21 t2=4, p0=15 t2=4, t2=4,"
     "t0=2 t1=2, t0=2 t1=2 t2=2 p0=4, t0=2 t1=2 t2=2 p0=7, t0=2 t1=2 t2=2 p0=10, t0=2 t1=2 t2=4 p0=21, t0=4 t1=4 t2=4 p0=27,"
     "t0=4 t1=4 t2=4 p0=23, t0=4 t1=4 t2=4 p0=0, t0=4 t1=4 t2=4 p0=17, t0=5 t1=5 t2=5, t0=6 t1=6 t2=6, t1=2, t2=2,"
     "p4=5, p4=-1, p5=2, p5=-1, p6=1, p7=2, p7=-1, w0=11, w1=3, w2=11, w2=13, p2=0, p3=0, o0=none, o1=none, o2=none,"
     "s2=0 p4=3, s2=0 p5=0, s2=1, w1=12 p6=1 p7=3 s2=1, s2=0 a2=4, p1=1 n0=5 p2=4 p3=1 p4=0 w2=4 s2=1,"
     "k0=0 l0=1 r0=2 x0=1, k1=0 l1=1 r1=2 x1=1,"
     "p1=9 n0=29 p2=1 p3=1 p4=1 p5=1 p6=1 p7=1 w0=1 w1=1 w2=1",
     "p0=9, p0=4, p0=16 t2=4, p0=20 t2=4, t0=2 t1=2 t2=2, t0=3 t1=3 t2=3 p0=9, t0=2 t1=2 t2=4 p0=16, t0=3 t1=3 t2=4 p0=20,"
     "t0=4 t1=4 t2=4 p0=24, t0=4 t1=4 t2=4 p0=26, t0=4 t1=4 t2=4 p0=16, p4=3, p4=0, p7=0, w0=13, w1=5, s2=0,"
     "w1=12 p6=4 s2=1, p2=1 p4=7 w0=4 w2=4 s2=0, p2=1 p4=0 w0=4 w2=4 s2=0, k0=0, k1=0,"
     "p1=8 n0=26 p2=1 p3=1 p4=1 p5=1 p6=1 p7=1 w0=1 w1=1 w2=1, p1=1 n0=5 p2=4 p3=1 p4=1 w2=4, p1=1 n0=5 p2=4 p3=1 p4=1 w2=4 s2=1"},
    {"WHERE", 18, 3, 1, 9, {ARENA(BOOL, 1, 12), ARENA(F, 1, 4), ARENA(F, 1, 3), ARENA(F, 1, 12)},
     {2, 3, 4, 4, 1, 0, 1, 1, 0},
     "p0=0 n0=1, p0=1, p0=3, n0=8, n0=10, p1=0, p2=0, p3=5, p3=-1, p4=2, p5=1, p6=2, p7=2, p8=1, p8=-1, w0=11, w1=3, w2=2,"
     "w3=11, w3=13, t0=1, t0=3, t1=2, t2=2, t3=2, o0=none, o1=none, o2=none, o3=none, s3=1, w1=12 p5=4 s3=1, s3=0,"
     "k1=0 l1=1 r1=2 x1=1, k2=0 l2=1 r2=2 x2=1,"
     "p0=9 n0=37 p1=1 p2=1 p3=1 p4=1 p5=1 p6=1 p7=1 p8=1 w0=1 w1=1 w2=1 w3=1",
     "t1=2 t2=2 t3=2, t1=4 t2=4 t3=4, p3=3, w0=13, w1=5, w2=4, k1=0,"
     "p0=8 n0=33 p1=1 p2=1 p3=1 p4=1 p5=1 p6=1 p7=1 p8=1 w0=1 w1=1 w2=1 w3=1, p0=1 n0=5 p1=3 p2=1 p3=1 p4=1 w3=3"},
    {"AFFINE", 32, 3, 1, 6, {ARENA(F, 2, 3, 5), PACKED(7, 5), CONST(F, 1, 7), ARENA(F, 2, 3, 7)}, {3, 7, 5, 0, 0, 0},
     "p0=0, p0=2, p0=4, p1=6, p1=8, p2=4, p2=6, p3=30, p3=35, p3=36, n0=5, n0=7, w0=2, x0=4, w1=6, x1=4, w2=6, w2=8, k2=1, w3=2, x3=8,"
     "t0=2, t2=3, t3=3, o0=none, o1=none, o3=none, l1=0, o1=0, s3=0,"
     "p1=8 x3=8 w2=8, p2=6 x0=6",
     "o2=none, p3=1, p3=34, w0=5 x0=3, k0=0"},
    {"MATMUL", 33, 2, 1, 9, {ARENA(F, 1, 24), ARENA(F, 1, 40), ARENA(F, 1, 30)}, {1, 3, 5, 4, 4, 5, 2, 12, 20},
     "p0=0, p0=2, n0=8, n0=10, p1=0, p1=2, p1=4, p2=0, p2=4, p2=6, p3=0, p3=5, p4=5, p5=6, p4=-1, p5=-1, p6=0, p6=1, p6=3,"
     "p7=13, p7=-1, p8=21, p8=-1, w0=23, w1=39, w2=29, w2=31, t0=2, t1=2, t2=2, o0=none, o1=none, o2=none, s2=0, s2=1,"
     "p1=1 p4=0x80000000 w2=10, p3=1 p5=0x80000000, k0=0 l0=1 r0=2 x0=1,"
     "p0=9 n0=33 p6=1 p7=1 p8=1 w2=15",
     "p3=3, p4=3, p5=4, p7=0, p8=0, w0=25, w1=41, p1=1 p4=0x7fffffff w2=10, p3=1 p5=0x7fffffff, k0=0,"
     "p0=8 n0=30 p6=1 p7=1 p8=1 w2=15, p0=0 n0=6 w2=15"},
    {"GRU", 48, 8, 2, 23,
     {ARENA(F, 3, 2, 3, 4), PACKED(15, 4), PACKED(15, 5), ABSENT, CONST(F, 1, 15), CONST(F, 1, 5), ARENA(I32, 1, 3),
      ARENA(F, 2, 3, 5), ARENA(F, 3, 2, 3, 5), ARENA(F, 2, 3, 5)},
     {2, 3, 4, 5, 0, 0, 12, 4, 0, 15, 5, 0, 5, 0, 5, 0, 1, 1, 0, 0, 2, 0, 0},
     "p0=0, p0=3, p1=0, p1=2, p1=4, p2=0, p2=3, p2=5, p3=0, p3=4, p3=6, p4=2, p5=1, p5=-1, p6=13, p6=-12, p7=5, p7=-1, p8=1,"
     "p8=-1, p9=16, p9=-1, p10=6, p10=-1, p11=1, p11=-1, p12=6, p13=1, p13=-1, p14=6, p15=0xbf800000, p15=0x7fc00000, p16=2,"
     "p16=0, p17=30, p17=35, p17=36, p20=30, p20=35, p20=36, n0=22, o0=none, o1=none, o2=none, o3=1, k4=1, w4=14, w4=16, k5=1, w5=4, w5=6,"
     "w6=2, w6=4, t6=2, t6=1, w1=14, x1=3, w2=14, x2=4, l1=0, l2=0, t0=2, t7=2, t8=2, t9=2, w7=2, w8=1, w9=2,"
     "p6=0 p7=0 w0=1, p0=1 p6=0x80000000, p1=1 p7=0x80000000 w6=1, o1=0,"
     "p5=20 p6=-12 p7=-4",
     "p4=1, p0=1, p15=0x3f800000, p17=0, p17=34, p20=11, o4=none, o5=none, o6=none, o7=none, o8=none, o9=none, w0=3, w7=4,"
     "w8=3, w9=4, o8=none p8=1 p9=99, o7=none p11=1, o9=none p13=1, p6=0 p7=0, p0=1 p6=0x7fffffff,"
     "p1=1 p7=0x7fffffff w6=1, p11=10 p12=-5, k0=0, p0=1 s9=7"},
    {"GRU, the reset first", 48, 8, 2, 23,
     {ARENA(F, 3, 2, 3, 4), PACKED(15, 4), PACKED(10, 5), PACKED(5, 5), CONST(F, 1, 15), ABSENT, ABSENT,
      CONST(F, 1, 5), ARENA(F, 3, 2, 3, 5), ARENA(F, 2, 3, 5)},
     {2, 3, 4, 5, 0, 0, 12, 4, 0, 15, 5, 0, 0, 0, 5, 0, 0, 1, 0, 0, 2, 0, 0},
     "p16=1, p16=2, o3=none, w3=6, x3=4, o3=2, o2=3, w2=15, x2=4, o5=7, l3=0", "o4=none, p12=0"},
    {"LSTM", 49, 8, 3, 30,
     {ARENA(F, 3, 2, 3, 4), PACKED(20, 4), PACKED(20, 5), CONST(F, 1, 20), CONST(F, 1, 15), ARENA(I32, 1, 3),
      ARENA(F, 2, 3, 5), ARENA(F, 2, 3, 5), ARENA(F, 3, 2, 3, 5), ARENA(F, 2, 3, 5), ARENA(F, 2, 3, 5)},
     {2, 3, 4, 5, 0, 0, 12, 4, 0, 15, 5, 0, 5, 0, 5, 0, 0, 5, 0, 5, 0, 1, 0, 0, 2, 0, 0, 2, 0, 0},
     "p4=2, p5=1, p8=1, p11=1, p12=6, p13=1, p14=6, p15=0xbf800000, p16=1, p16=-1, p17=6, p18=1, p18=-1, p19=6, p20=2, p21=30,"
     "p21=35, p21=36, p24=30, p24=35, p24=36, p27=30, p27=35, p27=36, n0=29, o0=none, o1=none, o2=none, w1=19, x1=5, w2=21, x2=4, l2=0, w3=19, k3=1,"
     "w4=14, w4=16, k4=1, w5=2, t5=2, w6=2, w7=2, w8=1, w9=2, w10=2, t7=2, t10=2",
     "p20=1, p21=0, o3=none, o4=none, o5=none, o6=none, o7=none, o8=none, o9=none, o10=none, o7=none p16=1, o10=none p18=1"},
    {"RNN", 50, 6, 2, 19,
     {ARENA(F, 3, 2, 3, 4), PACKED(5, 4), PACKED(5, 5), CONST(F, 1, 5), ARENA(I32, 1, 3), ARENA(F, 2, 3, 5),
      ARENA(F, 3, 2, 3, 5), ARENA(F, 2, 3, 5)},
     {2, 3, 4, 5, 0, 0, 12, 4, 0, 15, 5, 0, 5, 0, 5, 0, 2, 0, 0},
     "p4=2, p5=1, p8=1, p11=1, p13=1, p16=30, p16=35, p16=36, n0=18, o0=none, o1=none, o2=none, w1=6, x1=5, w2=6, x2=4, w3=4, k3=1,"
     "w4=2, t4=2, w5=2, w6=1, w7=2",
     "p16=11, o3=none, o4=none, o5=none, o6=none, o7=none"},
    {"REDUCE", 64, 1, 1, 4, {ARENA(F, 1, 24), ARENA(F, 1, 8)}, {0, 2, 3, 4},
     "p0=9, p0=-1, p1=1, p1=3, p2=2, p2=0, p3=3, p3=0, w0=23, w0=25, w1=7, w1=9, t0=2, t1=2, t0=2 t1=2 p0=5, t0=4 t1=4,"
     "t0=5 t1=5, o0=none, o1=none, s1=0, k0=0 l0=1 r0=2 x0=1, p1=0x80000001 p3=0x80000004",
     "p0=8, t0=2 t1=2 p0=4, t0=3 t1=3"},
    {"SOFTMAX", 65, 1, 1, 4, {ARENA(F, 1, 24), ARENA(F, 1, 24)}, {2, 3, 4, 0},
     "p3=2, p0=3, p1=2, p2=5, w0=23, w1=23, w1=25, t0=2, t1=2, t0=3 t1=3, o0=none, o1=none, s1=0", "p3=1"},
    {"NORMALIZE", 66, 3, 1, 3, {ARENA(F, 1, 6), CONST(F, 1, 3), CONST(F, 1, 3), ARENA(F, 1, 6)}, {2, 3, 0},
     "p0=1, p1=2, p0=3 p1=2, p2=0xbf800000, p2=0x7fc00000, w0=7, w1=2, w1=4, w2=2, w2=4, w3=5, w3=7, t0=2, t1=2, t2=3, t3=2,"
     "o0=none, o3=none, s3=0, n0=2",
     "p2=0x3f800000, p2=0x80000000, o1=none, o2=none, o1=none o2=none, k1=1, k2=1"},
    {"ARG", 67, 1, 1, 5, {ARENA(F, 1, 24), ARENA(I64, 1, 8)}, {0, 2, 3, 4, 0},
     "p0=2, p4=2, p1=1, p2=4, p2=2, p2=0, p3=3, w0=23, w0=25, w1=7, w1=9, t0=4, t0=5, t1=1, t1=3, o0=none, o1=none, s1=0, n0=4",
     "p0=1, p4=1, t0=2, t0=3, p1=4 p3=2"},
    {"TOPK", 68, 1, 2, 6, {ARENA(F, 1, 24), ARENA(F, 1, 16), ARENA(I64, 1, 16)}, {2, 3, 4, 2, 1, 1},
     "p3=4 w1=32 w2=32, p3=0, p3=1, p4=2, p5=2, p0=1, p1=2, p2=5, w0=25, w1=15, w1=17, w2=15, w2=17, t0=2, t1=2, t2=3, t0=4 t1=4,"
     "o0=none, s1=0, s2=1, s2=0, n0=5",
     "p3=3 w1=24 w2=24, p4=0, p5=0, t0=2 t1=2, t0=3 t1=3, o1=none, o2=none"},
    {"CUMSUM", 69, 1, 1, 5, {ARENA(F, 1, 24), ARENA(F, 1, 24)}, {2, 3, 4, 0, 0},
     "p3=2, p4=2, p0=1, p1=4, p2=3, w0=23, w1=23, t0=2, t1=2, t0=4 t1=4, t0=5 t1=5, o0=none, o1=none, s1=0, n0=4",
     "p3=1, p4=1, t0=2 t1=2, t0=3 t1=3"},
    {"CUMSUM beside its input", 69, 1, 1, 5, {ARENA(F, 1, 16), ARENA(F, 1, 16)}, {1, 16, 1, 0, 0},
     "s1=0 a1=60, s0=1 a0=60, s1=0 a1=4", "s1=0 a1=64, s0=1 a0=64"},
    {"CONV", 80, 3, 1, 19, {ARENA(F, 4, 1, 2, 5, 6), ARENA(F, 4, 4, 1, 3, 3), CONST(F, 1, 4), ARENA(F, 4, 1, 4, 3, 4)},
     {1, 2, 5, 6, 4, 3, 4, 2, 3, 3, 1, 1, 0, 0, 1, 1, 0, 0, 0},
     "p0=0, p0=2, p1=1, p1=3, p2=4, p3=7, p4=3, p4=5, p5=2, p5=4, p6=3, p6=0, p7=0, p7=1, p7=3, p8=2, p8=0, p9=4, p10=0, p11=0,"
     "p14=0, p15=0, p10=0x80000000, p11=0x80000000, p14=0x80000000, p15=0x80000000, p16=30, p16=35, p16=36, w0=2, y0=4, w1=5, w2=3,"
     "w2=5, w3=2, z3=3, t0=2, t1=2, t2=2, t3=2, o0=none, o1=none, o3=none, s3=0, s3=1, n0=18, p1=3 x0=3, p4=5 w1=5 w2=5 x3=5,"
     "p14=5506, p15=6607, p4=3 w1=3 w2=3 x3=3",
     "o2=none, k2=1, k1=0, p10=2, p10=7, p12=3, p12=-3, p13=-20, p12=100000, p14=5505, p15=6606, p16=1, p16=34, p14=2"},
    {"CONV of the longest row", 80, 3, 1, 19, {ARENA(F, 4, 1, 1, 1, 5), ARENA(F, 4, 1, 1, 1, 1), ABSENT, ARENA(F, 4, 1, 1, 1, 5)},
     {1, 1, 1, 5, 1, 1, 5, 1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 0}, "z0=6, z3=6, p6=6",
     "p3=0x7fffffff p6=0x7fffffff z0=0x7fffffff z3=0x7fffffff a1=0xc0000000 a1=0xc0000000 a1=0xc0000000 a3=0xc0000000 a3=0xc0000000 a3=0xc0000000"},
    {"CONV_TRANSPOSE", 81, 3, 1, 19,
     {ARENA(F, 4, 1, 2, 5, 6), ARENA(F, 4, 2, 2, 3, 3), CONST(F, 1, 4), ARENA(F, 4, 1, 4, 7, 8)},
     {1, 2, 5, 6, 4, 7, 8, 2, 3, 3, 1, 1, 0, 0, 1, 1, 0, 0, 0},
     "p0=2, p1=1, p1=3, p4=3, p4=5, p5=6, p6=9, p7=0, p7=1, p7=3, p8=2, p10=0, p11=0, p14=0, p15=0, p16=30, w0=2, w1=3, w2=3,"
     "z3=7, t1=2, o0=none, o1=none, o3=none, p1=3 x0=3 w1=3, p4=5 w2=5 x3=5, p14=0x80000000",
     "o2=none, p10=2, p11=3, p12=3, p12=-3, p14=2, p10=1000, p16=3"},
    {"POOL", 82, 1, 1, 18, {ARENA(F, 4, 1, 2, 5, 6), ARENA(F, 4, 1, 2, 3, 4)},
     {0, 1, 2, 5, 6, 3, 4, 3, 3, 1, 1, 0, 0, 1, 1, 0, 0, 0},
     "p0=2, p15=2, p16=0x80000000, p17=0x80000000, p1=2, p2=1, p3=4, p4=7, p5=2, p6=3, p7=0, p8=0, p9=0, p10=0, p13=0, p14=0,"
     "p7=257 p8=256, p9=0x80000000, p13=0x80000000, w0=2, z0=5, w1=2, z1=3, t0=2, t1=2, o0=none, o1=none, s1=0, n0=17,"
     "p13=5506",
     "p0=1, p15=1, p16=0x7fffffff, p17=3, p7=256 p8=256, p9=2, p11=1, p11=-1, p13=2, p13=5505"},
};
/* clang-format on */

enum { ROOM = 4096, FILLER = 64 }; /* bytes for each tensor, however it is changed; words behind an operator's own */

static unsigned char *build(const example *e, size_t *size)
{
    image im = {0};
    uint32_t ids[12], one = 1;
    for (uint32_t i = 0; i < (uint32_t)e->n_in + e->n_out; i++) {
        const operand_of_test *o = &e->operands[i];
        ids[i] = SGRU_NONE;
        if (!o->dtype) continue;
        ids[i] = add_tensor(&im, o->dtype, o->kind, o->layout, o->rank, o->dims);
        uint64_t *area = o->kind == KIND_CONST ? &im.data_size : &im.arena;
        *area = im.tensors[ids[i]].offset + ROOM;
    }
    im.data = calloc(1, im.data_size + ROOM), im.data_size += ROOM;
    add_op(&im, e->code, e->n_in, ids, e->n_out, ids + e->n_in, e->n, e->p);
    uint32_t all = strstr(e->name, "longest") ? 0x7FFFFFFF : 1 << 16,
             cover = add_tensor(&im, SGRU_I64, KIND_ARENA, LAYOUT_ROWS, 1, &all);
    im.tensors[cover].offset = 0; /* an input that all of the arena is a part of, wherever a change puts it */
    add_to_list(&im, 0, cover);
    for (uint32_t i = 0; i < FILLER; i++) im.words[im.n_words++] = one;
    return finish(&im, size);
}

static void change(unsigned char *bytes, char what, uint32_t at, uint32_t value)
{
    const sgru_header *h = (const sgru_header *)bytes;
    sgru_op_rec *op = (sgru_op_rec *)(bytes + h->ops);
    uint32_t *words = (uint32_t *)(bytes + h->words);
    sgru_tensor_rec *all = (sgru_tensor_rec *)(bytes + h->tensors), *t = all + words[at];
    switch (what) {
    case 'p': words[op->n_in + op->n_out + at] = value; break;
    case 'n': op->n_params = (uint16_t)value; break;
    case 'o': words[at] = value == SGRU_NONE ? value : words[value]; break;
    case 'i': words[at] = value; break;
    case 't': t->dtype = (uint8_t)value; break;
    case 'k': /* a constant has the first bytes of the data */
        t->kind = (uint8_t)value;
        t->offset = value == KIND_CONST ? 0 : 64 * ROOM;
        break;
    case 'l': t->layout = (uint8_t)value; break;
    case 'r':
        t->rank = (uint8_t)value;
        for (uint32_t i = value; i < SGRU_MAX_RANK; i++) t->dims[i] = 1;
        break;
    case 's': t->offset = all[words[value]].offset; break;
    case 'a': t->offset += value; break;
    default: t->dims[what == 'w' ? 0 : what - 'x' + 1] = value;
    }
}

static int status_of(const unsigned char *original, size_t size, const char *changes, size_t length)
{
    unsigned char *bytes = aligned_alloc(64, size);
    sgru_model m;
    memcpy(bytes, original, size);
    for (const char *p = changes; p < changes + length;) {
        if (*p == ' ' && ++p) continue;
        char what = *p, *end;
        uint32_t at = (uint32_t)strtoul(p + 1, &end, 0), value = SGRU_NONE;
        if (!strncmp(end, "=none", 5)) end += 5;
        else value = (uint32_t)strtoll(end + 1, &end, 0);
        change(bytes, what, at, value);
        p = end;
    }
    ((sgru_header *)bytes)->checksum = sgru_checksum(bytes + 32, size - 32);
    int status = sgru_model_open(&m, bytes, size);
    free(bytes);
    return status;
}

static void try_all(const example *e, const unsigned char *bytes, size_t size, const char *list, int want)
{
    while (*list) {
        size_t length = strcspn(list, ",");
        int status = status_of(bytes, size, list, length);
        if (status == want) passed++;
        else printf("%s with %.*s: %s\n", e->name, (int)length, list, sgru_strerror(status)), failed++;
        list += length + (list[length] == ',');
    }
}

/* An operand must exist, and what is written must not be a constant. */
static void try_ids(const example *e, const unsigned char *bytes, size_t size)
{
    char unknown[32], constant[32];
    for (int i = 0; i < e->n_in + e->n_out; i++) {
        if (!e->operands[i].dtype) continue;
        snprintf(unknown, sizeof unknown, "i%d=%u", i, ((const sgru_header *)bytes)->n_tensors);
        snprintf(constant, sizeof constant, "k%d=0", i);
        try_all(e, bytes, size, unknown, SGRU_E_FORMAT);
        if (i >= e->n_in) try_all(e, bytes, size, constant, SGRU_E_FORMAT);
    }
}

int main(void)
{
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        size_t size;
        unsigned char *bytes = build(&examples[i], &size);
        try_all(&examples[i], bytes, size, " ", SGRU_OK);
        try_all(&examples[i], bytes, size, examples[i].refused, SGRU_E_OPERATOR);
        try_all(&examples[i], bytes, size, examples[i].accepted, SGRU_OK);
        try_ids(&examples[i], bytes, size);
        free(bytes);
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0;
}

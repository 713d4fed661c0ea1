// The GRU of RTNeural with sizes known at compile time, its fastest form. The backend is chosen by -DRTNEURAL_USE_EIGEN=1 or
// -DRTNEURAL_USE_XSIMD=1; with neither it is plain C++.
#include <RTNeural/RTNeural.h>

#include <algorithm>
#include <vector>

#include "peer.h"

namespace
{
struct Gru {
    virtual ~Gru() = default;
    virtual void step(const float *x, float *y) = 0;
};

using Rows = std::vector<std::vector<float>>;

// [rows][columns] as it takes it: [columns][rows].
Rows transposed(const float *w, int rows, int columns)
{
    Rows t(columns, std::vector<float>(rows));
    for (int m = 0; m < rows; m++)
        for (int k = 0; k < columns; k++) t[k][m] = w[m * columns + k];
    return t;
}

template <int I, int H> struct Sized : Gru {
    RTNeural::ModelT<float, I, H, RTNeural::GRULayerT<float, I, H>> model;

    Sized(const float *w, const float *r, const float *bias_w, const float *bias_r)
    {
        auto &layer = model.template get<0>();
        layer.setWVals(transposed(w, 3 * H, I));
        layer.setUVals(transposed(r, 3 * H, H));
        layer.setBVals({{bias_w, bias_w + 3 * H}, {bias_r, bias_r + 3 * H}});
        model.reset();
    }

    void step(const float *x, float *y) override
    {
        model.forward(x);
        std::copy_n(model.getOutputs(), H, y);
    }
};
} // namespace

void *peer_open(int input, int hidden, const float *w, const float *r, const float *bias_w, const float *bias_r)
{
    if (input == 32 && hidden == 32) return new Sized<32, 32>(w, r, bias_w, bias_r);
    if (input == 64 && hidden == 64) return new Sized<64, 64>(w, r, bias_w, bias_r);
    if (input == 64 && hidden == 128) return new Sized<64, 128>(w, r, bias_w, bias_r);
    if (input == 64 && hidden == 256) return new Sized<64, 256>(w, r, bias_w, bias_r);
    if (input == 256 && hidden == 256) return new Sized<256, 256>(w, r, bias_w, bias_r);
    if (input == 64 && hidden == 512) return new Sized<64, 512>(w, r, bias_w, bias_r);
    return nullptr;
}

void peer_step(void *peer, const float *x, float *y) { static_cast<Gru *>(peer)->step(x, y); }

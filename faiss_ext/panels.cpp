#include <faiss_ext/panels.h>

#include <algorithm>
#include <vector>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/query_rows.h>

namespace faiss_ext {

using kernels::kPanel;

AlignedBuffer<float> make_panels(size_t n, size_t d, const float* rows) {
    AlignedBuffer<float> panels(round_up(n, kPanel) * d);
    float* out = panels.mutable_data();
    for (size_t j = 0; j < n; j++) {
        float* column = out + j / kPanel * d * kPanel + j % kPanel;
        for (size_t i = 0; i < d; i++) {
            column[i * kPanel] = rows[j * d + i];
        }
    }
    return panels;
}

AlignedBuffer<float> make_half_norms(size_t n, size_t d, const float* rows) {
    AlignedBuffer<float> norms(round_up(n, kPanel));
    float* out = norms.mutable_data();
    std::fill(out, out + norms.size(), HUGE_VALF);
    for (size_t j = 0; j < n; j++) {
        double norm2 = 0;
        for (size_t i = 0; i < d; i++) {
            norm2 += double(rows[j * d + i]) * rows[j * d + i];
        }
        out[j] = float(norm2) / 2;
    }
    return norms;
}

void find_nearest(
        size_t n,
        size_t d,
        const float* x,
        size_t k,
        const float* panels,
        const float* half_norms,
        int64_t* nearest) {
    thread_local AlignedBuffer<float> products;
    products.resize(n * kChunkPanels);
    float* out = products.mutable_data();
    std::vector<Largest> best(n);
    for (size_t begin = 0; begin < k; begin += kChunkPanels) {
        size_t size = std::min(kChunkPanels, k - begin);
        size_t padded = round_up(size, kPanel);
        active_kernels().panel_products(
                {x, n, d, d, panels + begin * d, size, out, kChunkPanels});
        for (size_t i = 0; i < n; i++) {
            float* row = out + i * kChunkPanels;
            for (size_t j = 0; j < padded; j++) {
                row[j] -= half_norms[begin + j];
            }
            best[i].update(row, padded, int64_t(begin));
        }
    }
    for (size_t i = 0; i < n; i++) {
        nearest[i] = all_finite(d, x + i * d) ? best[i].index : -1;
    }
}

void Largest::update(const float* values, size_t n, int64_t first) {
    float lanes[kPanel];
    std::fill(lanes, lanes + kPanel, -HUGE_VALF);
    for (size_t j = 0; j < n; j += kPanel) {
        for (size_t l = 0; l < kPanel; l++) {
            float v = values[j + l];
            lanes[l] = v > lanes[l] ? v : lanes[l];
        }
    }
    float top = *std::max_element(lanes, lanes + kPanel);
    if (top > value) {
        value = top;
        index = first + (std::find(values, values + n, top) - values);
    }
}

} // namespace faiss_ext

#include <faiss_ext/partition/panels.h>

namespace faiss_ext {

using kernels::kPanel;

AlignedBuffer<float>
make_panels(size_t n, size_t d, const float* rows, const size_t* which) {
    AlignedBuffer<float> panels(round_up(n, kPanel) * d);
    float* out = panels.mutable_data();
    for (size_t j = 0; j < n; j++) {
        float* column = out + j / kPanel * d * kPanel + j % kPanel;
        const float* row = rows + (which == nullptr ? j : which[j]) * d;
        for (size_t i = 0; i < d; i++) {
            column[i * kPanel] = row[i];
        }
    }
    return panels;
}

} // namespace faiss_ext

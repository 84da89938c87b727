#include <faiss_ext/model/scann_model.h>

#include <algorithm>
#include <cfloat>

namespace faiss_ext {

const float* ScaNNModel::from_origin(
        size_t n,
        const float* x,
        std::vector<float>& storage) const {
    if (origin.empty()) {
        return x;
    }
    const size_t d = origin.size();
    storage.resize(n * d);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < d; j++) {
            // the difference of two finite values may be infinite
            storage[i * d + j] =
                    std::clamp(x[i * d + j] - origin[j], -FLT_MAX, FLT_MAX);
        }
    }
    return storage.data();
}

} // namespace faiss_ext

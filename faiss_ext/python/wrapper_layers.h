/* Helpers for walking down Faiss' wrappers. Only for wrapped_*.cpp. */

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <faiss/IndexIDMap.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/VectorTransform.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/IDSelector.h>

namespace faiss_ext::python {

template <class Layer>
const Layer* as(const faiss::Index* index) {
    return dynamic_cast<const Layer*>(index);
}

template <class Layer>
Layer* as(faiss::Index* index) {
    return dynamic_cast<Layer*>(index);
}

/// Rows as the layer below a PreTransform sees them.
class Transformed {
 public:
    Transformed(
            const faiss::IndexPreTransform& layer,
            int64_t n,
            const float* x)
            : data_(apply(layer, n, x)), owned_(data_ == x ? nullptr : data_) {}
    const float* data() const {
        return data_;
    }

 private:
    /// Faiss refuses untrained ones too, but leaks the memory of the result.
    static const float*
    apply(const faiss::IndexPreTransform& layer, int64_t n, const float* x) {
        for (const faiss::VectorTransform* transform : layer.chain) {
            FAISS_THROW_IF_NOT_MSG(
                    transform->is_trained,
                    "a transformation around the index is not trained");
        }
        return layer.apply_chain(n, x);
    }

    const float* data_;
    std::unique_ptr<const float[]> owned_;
};

} // namespace faiss_ext::python

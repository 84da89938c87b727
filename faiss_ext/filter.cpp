#include <faiss_ext/filter.h>

#include <algorithm>

namespace faiss_ext {

using kernels::kBlockSize;

Filter::Filter(const faiss::IDSelector* sel)
        : sel_(sel),
          bitmap_(dynamic_cast<const faiss::IDSelectorBitmap*>(sel)) {}

size_t Filter::masks(
        const kernels::Kernels& kernels,
        const int64_t* ids,
        size_t n,
        uint32_t* words) const {
    if (bitmap_ != nullptr) {
        // IDSelectorBitmap::n is the number of bytes
        return kernels.filter_masks(
                {ids, n, bitmap_->bitmap, int64_t(bitmap_->n) * 8, words});
    }
    size_t passing = 0;
    for (size_t begin = 0; begin < n; begin += kBlockSize) {
        uint32_t word = 0;
        size_t size = std::min(kBlockSize, n - begin);
        for (size_t i = 0; i < size; i++) {
            bool passed = passes(ids[begin + i]);
            word |= uint32_t(passed) << i;
            passing += passed;
        }
        words[begin / kBlockSize] = word;
    }
    return passing;
}

} // namespace faiss_ext

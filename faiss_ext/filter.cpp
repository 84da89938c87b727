#include <faiss_ext/filter.h>

#include <algorithm>
#include <bit>

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
    const size_t blocks = (n + kBlockSize - 1) / kBlockSize;
    if (bitmap_ != nullptr) {
        // IDSelectorBitmap::n is the number of bytes
        kernels.filter_masks(
                {ids, n, bitmap_->bitmap, int64_t(bitmap_->n) * 8, words});
    } else {
        for (size_t b = 0; b < blocks; b++) {
            uint32_t word = 0;
            size_t end = std::min(kBlockSize, n - b * kBlockSize);
            for (size_t i = 0; i < end; i++) {
                word |= uint32_t(passes(ids[b * kBlockSize + i])) << i;
            }
            words[b] = word;
        }
    }
    size_t passing = 0;
    for (size_t b = 0; b < blocks; b++) {
        passing += std::popcount(words[b]);
    }
    return passing;
}

} // namespace faiss_ext

#include <faiss_ext/partition/coarse_quantizer.h>

#include <algorithm>

#include <faiss/IndexPQ.h>
#include <faiss/IndexPreTransform.h>

namespace faiss_ext {

namespace {

/// Rows that may be searched in one call. An IndexPQ makes a table of M *
/// 2^nbits floats for each of them at once: for a million rows and PQ16 these
/// are 16 GB.
int64_t rows_per_call(const faiss::Index& quantizer, int64_t n) {
    constexpr size_t kMaxTableBytes = size_t(64) << 20;
    if (auto* chain =
                dynamic_cast<const faiss::IndexPreTransform*>(&quantizer)) {
        return rows_per_call(*chain->index, n);
    }
    if (auto* product = dynamic_cast<const faiss::IndexPQ*>(&quantizer)) {
        const size_t table = product->pq.M * product->pq.ksub * sizeof(float);
        return int64_t(std::max<size_t>(1, kMaxTableBytes / table));
    }
    return std::max<int64_t>(n, 1);
}

} // namespace

void search_quantizer(
        const faiss::Index& quantizer,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels,
        const faiss::SearchParameters* parameters) {
    const int64_t per_call = rows_per_call(quantizer, n);
    for (int64_t begin = 0; begin < n; begin += per_call) {
        quantizer.search(
                std::min(per_call, n - begin),
                x + begin * quantizer.d,
                k,
                distances + begin * k,
                labels + begin * k,
                parameters);
    }
}

} // namespace faiss_ext

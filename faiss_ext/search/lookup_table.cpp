#include <faiss_ext/search/lookup_table.h>

#include <algorithm>

namespace faiss_ext {

using kernels::kCodewords;
using kernels::kGroup;

namespace {

/// The reciprocal of a smaller step may be infinite: the table counts as 0.
constexpr float kMinStep = 1e-36f;

} // namespace

void LookupTable::build(
        const kernels::Kernels& kernels,
        const ScoreAwarePQ& pq,
        const float* rotated_query,
        float min_step) {
    size_t M = pq.M();
    size_t padded = (M + kGroup - 1) / kGroup * kGroup;
    values.resize(M * kCodewords);
    bytes.resize(padded * kCodewords);

    kernels::TableArgs table{};
    table.query = rotated_query;
    table.offsets = pq.offsets().data();
    table.M = M;
    table.codebook = pq.codebook().data();
    table.table = values.mutable_data();
    kernels.float_table(table);

    // all entries of a table may be equal, as for a zero query: any step does
    step = std::max(table.max_span / 255.0f, min_step);
    if (!(step > kMinStep)) {
        step = 1;
    }
    offset = table.sum_min;
    kernels.quantize_table(
            {values.data(), M, 1.0f / step, bytes.mutable_data()});
}

float LookupTable::score(const uint8_t* codes, size_t M) const {
    float sum = 0;
    for (size_t m = 0; m < M; m++) {
        sum += values[m * kCodewords + codes[m]];
    }
    return sum;
}

} // namespace faiss_ext

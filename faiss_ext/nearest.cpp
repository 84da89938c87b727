#include <faiss_ext/nearest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/panels.h>
#include <faiss_ext/query_rows.h>
#include <faiss_ext/row_products.h>

namespace faiss_ext {

namespace {

/// Rows whose scores are found together: with a thousand rows to choose from,
/// these stay in a second-level cache.
constexpr size_t kTogether = 32;
/// Two scores are off by three standard deviations each.
constexpr float kMargin = 6;

float distance(size_t d, const float* a, const float* b) {
    return std::sqrt(quick_distance(d, a, b));
}

} // namespace

/// What a thread needs to find rows; kept, so that this does not allocate.
struct NearestRows::Scratch {
    ByteQueries queries;
    AlignedBuffer<float> scores;
    AlignedBuffer<float> along_scores;
    AlignedBuffer<float> directions;
    std::vector<uint64_t> keys;
    std::vector<const void*> close; ///< rows that may be the nearest
    std::vector<float> distances;   ///< squared, of these
    std::vector<float> along;
};

NearestRows::Scratch& NearestRows::scratch() {
    thread_local Scratch kept;
    return kept;
}

NearestRows::NearestRows(size_t n, size_t d, const float* rows, bool borrow)
        : d_(d), rows_(AlignedBuffer<float>::borrow(rows, n * d)), mean_(d) {
    if (!borrow) {
        rows_.mutable_data(); // copies
    }
    std::vector<double> sum(d);
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < d; i++) {
            sum[i] += rows[j * d + i];
        }
    }
    for (size_t i = 0; i < d; i++) {
        mean_.mutable_data()[i] = float(sum[i] / double(n));
    }
    std::vector<float> shifted(n * d);
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i < d; i++) {
            shifted[j * d + i] = rows[j * d + i] - mean_[i];
        }
    }
    bytes_ = BytePanels(n, d, shifted.data());
    terms_.resize(bytes_.padded());
    for (size_t j = 0; j < n; j++) {
        const float* row = shifted.data() + j * d;
        double norm2 = precise_square(d, row);
        terms_.mutable_data()[j] =
                float(std::max(-norm2 / 2, -double(FLT_MAX)));
    }
}

size_t NearestRows::memory_usage() const {
    return rows_.allocated_bytes() + mean_.allocated_bytes() +
           terms_.allocated_bytes() + bytes_.memory_usage();
}

size_t NearestRows::estimate_memory(size_t n, size_t d, bool borrow) {
    size_t floats = (borrow ? 0 : n * d) + d + round_up(n, kernels::kPanel);
    return floats * sizeof(float) + BytePanels::estimate_memory(n, d);
}

/// Puts the rows with scores near the largest into s.close, s.keys.
size_t NearestRows::find_close(const float* scores, float margin, Scratch& s)
        const {
    margin = margin < FLT_MAX ? margin : FLT_MAX; // NaN too
    s.keys.resize(size() + kernels::kScanSlack);
    size_t count = active_kernels().near_largest(
            {scores, size(), margin, s.keys.data()});
    s.close.resize(count);
    s.distances.resize(count);
    for (size_t i = 0; i < count; i++) {
        s.close[i] = row(uint32_t(~s.keys[i]));
    }
    return count;
}

void NearestRows::find(size_t n, const float* x, int64_t* nearest) const {
    Scratch& s = scratch();
    const kernels::Kernels& kernels = active_kernels();
    for (size_t begin = 0; begin < n; begin += kTogether) {
        size_t size = std::min(kTogether, n - begin);
        s.queries.set(size, d_, x + begin * d_, mean());
        s.scores.resize(size * bytes_.padded());
        bytes_.scores(kernels, s.queries, {terms()}, s.scores.mutable_data());
        for (size_t i = 0; i < size; i++) {
            const float* at = x + (begin + i) * d_;
            if (!all_finite(d_, at)) {
                nearest[begin + i] = -1;
                continue;
            }
            float error = bytes_.error(s.queries, i, distance(d_, mean(), at));
            size_t count = find_close(
                    s.scores.data() + i * bytes_.padded(), kMargin * error, s);
            size_t best = 0;
            if (count > 1) {
                kernels.float_rows_l2(
                        {s.close.data(), count, d_, at, s.distances.data()});
                best = std::min_element(
                               s.distances.begin(), s.distances.end()) -
                       s.distances.begin();
            }
            nearest[begin + i] = uint32_t(~s.keys[best]);
        }
    }
}

void NearestRows::find_spilled(
        size_t n,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    Scratch& s = scratch();
    const kernels::Kernels& kernels = active_kernels();
    const size_t padded = bytes_.padded();
    for (size_t begin = 0; begin < n; begin += kTogether) {
        size_t size = std::min(kTogether, n - begin);
        const float* tile = x + begin * d_;
        s.directions.resize(size * d_); // r / ||r||, or 0
        float* directions = s.directions.mutable_data();
        float lengths[kTogether] = {}; // ||r||
        for (size_t i = 0; i < size; i++) {
            float* r = directions + i * d_;
            int64_t list = primary[begin + i];
            if (list < 0) {
                std::fill_n(r, d_, 0.f);
                continue;
            }
            lengths[i] = distance(d_, row(list), tile + i * d_);
            for (size_t a = 0; a < d_; a++) {
                float value = tile[i * d_ + a] - row(list)[a];
                r[a] = lengths[i] > 0 ? value / lengths[i] : 0;
            }
        }
        s.scores.resize(size * padded);
        s.along_scores.resize(size * padded);
        float errors[kTogether];
        s.queries.set(size, d_, directions, nullptr);
        bytes_.scores(kernels, s.queries, {}, s.along_scores.mutable_data());
        for (size_t i = 0; i < size; i++) {
            errors[i] = lambda * lengths[i] * bytes_.error(s.queries, i, 1);
        }
        s.queries.set(size, d_, tile, mean());
        bytes_.scores(kernels, s.queries, {terms()}, s.scores.mutable_data());
        for (size_t i = 0; i < size; i++) {
            int64_t first = primary[begin + i];
            spilled[begin + i] = -1;
            if (first < 0) {
                continue;
            }
            const float* at = tile + i * d_;
            const float* r = directions + i * d_;
            const float along = quick_dot(d_, at, r);
            // of scores that are without the mean's part, too
            const float along_mean = along - quick_dot(d_, mean(), r);
            float* scores = s.scores.mutable_data() + i * padded;
            const float* towards = s.along_scores.data() + i * padded;
            for (size_t j = 0; j < padded; j++) {
                float parallel = along_mean - towards[j];
                scores[j] -= lambda / 2 * parallel * parallel;
            }
            float error = std::hypot(
                    errors[i],
                    bytes_.error(s.queries, i, distance(d_, mean(), at)));
            size_t count = find_close(scores, kMargin * error, s);
            s.along.resize(count);
            kernels.float_rows_l2(
                    {s.close.data(), count, d_, at, s.distances.data()});
            kernels.float_rows_dot(
                    {s.close.data(), count, d_, r, s.along.data()});
            for (size_t c = 0; c < count; c++) {
                float parallel = along - s.along[c];
                s.distances[c] += lambda * parallel * parallel;
            }
            size_t best =
                    std::min_element(s.distances.begin(), s.distances.end()) -
                    s.distances.begin();
            int64_t found = uint32_t(~s.keys[best]);
            spilled[begin + i] = found == first ? -1 : found;
        }
    }
}

} // namespace faiss_ext

#include <faiss_ext/partition.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/panels.h>
#include <faiss_ext/parallel.h>
#include <faiss_ext/query_rows.h>

namespace faiss_ext {

using kernels::kPanel;

namespace {

constexpr float kInfinity = HUGE_VALF;
/// rows per tile: with their panels and products, at d = 384, they stay in a
/// second-level cache of 1 MB
constexpr size_t kTileRows = 128;
/// queries per tile of probes()
constexpr size_t kTileQueries = 8;
/// largest 8-bit query value; 63 * 255 * 2 fits the 16 bits of VPMADDUBSW
constexpr float kQueryRange = 63;

size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

float dot(size_t d, const float* a, const float* b) {
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        sum += double(a[i]) * b[i];
    }
    return float(sum);
}

/// Larger keys: larger scores, then smaller lists.
uint64_t key_of(float score, size_t list) {
    uint32_t bits;
    score += 0.f; // no -0
    std::memcpy(&bits, &score, sizeof(bits));
    bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
    return uint64_t(bits) << 32 | uint32_t(~list);
}

/// Columns of the table in which ProbeScratch::select() looks for `wanted`.
size_t table_columns(size_t wanted) {
    size_t columns = kPanel;
    while (columns < 2 * wanted) {
        columns *= 2;
    }
    return columns;
}

/// What one query needs; kept by each thread, so that searches do not allocate.
struct ProbeScratch {
    AlignedBuffer<float> shifted; ///< query - mean, padded with 0
    AlignedBuffer<int32_t> steps; ///< the same in steps
    AlignedBuffer<int8_t> query;  ///< steps
    int32_t sum = 0;              ///< of query
    AlignedBuffer<int32_t> products;
    AlignedBuffer<float> scores;
    AlignedBuffer<float> best;
    std::vector<uint32_t> found;
    std::vector<const void*> rows;
    std::vector<float> exact;
    std::vector<std::pair<uint64_t, float>> keys; ///< rank, similarity

    /// Fills query and sum; returns the step.
    float quantize(size_t d, const float* x, const float* mean) {
        size_t d4 = round_up(d, 4);
        shifted.resize(d4);
        query.resize(d4);
        float* values = shifted.mutable_data();
        for (size_t i = 0; i < d; i++) {
            values[i] = x[i] - mean[i];
        }
        std::fill(values + d, values + d4, 0.f);
        float lanes[4] = {};
        for (size_t i = 0; i < d4; i += 4) {
            for (size_t l = 0; l < 4; l++) {
                float size = std::fabs(values[i + l]);
                lanes[l] = size > lanes[l] ? size : lanes[l];
            }
        }
        float largest = *std::max_element(lanes, lanes + 4);
        float inverse = largest > 0 ? kQueryRange / largest : 0;
        // rounds half up: unlike lrint, the compiler can vectorise it
        steps.resize(d4);
        int32_t* integers = steps.mutable_data();
        int32_t total = 0;
        for (size_t i = 0; i < d4; i++) {
            integers[i] = int32_t(values[i] * inverse + 64.5f) - 64;
            total += integers[i];
        }
        sum = total;
        std::copy_n(integers, d4, query.mutable_data());
        return largest / kQueryRange;
    }

    /** Lists the indices of the `wanted` largest scores, and some more.
     *
     * With the scores as a table, the wanted-th largest of the column maxima
     * is a lower bound of the wanted-th largest score, and a close one when
     * there are at least twice as many columns: few more scores reach it.
     *
     * @return number of indices in found; 0 if scores are not finite
     */
    size_t select(size_t columns, size_t wanted) {
        size_t size = scores.size();
        size_t nrows = size / columns;
        uint32_t* out = found.data();
        const float* table = scores.data();
        best.resize(2 * columns);
        float* maxima = best.mutable_data();
        float* ranked = maxima + columns;
        std::copy(table, table + columns, maxima);
        for (size_t r = 1; r < nrows; r++) {
            const float* row = table + r * columns;
            for (size_t c = 0; c < columns; c++) {
                maxima[c] = row[c] > maxima[c] ? row[c] : maxima[c];
            }
        }
        std::copy(maxima, maxima + columns, ranked);
        std::nth_element(
                ranked,
                ranked + (wanted - 1),
                ranked + columns,
                std::greater<float>());
        float threshold = ranked[wanted - 1];
        if (threshold == -kInfinity) {
            return 0;
        }
        size_t nfound = 0;
        for (size_t c = 0; c < columns; c++) {
            if (maxima[c] < threshold) {
                continue;
            }
            for (size_t i = c; i < size; i += columns) {
                out[nfound] = uint32_t(i);
                nfound += table[i] >= threshold ? 1 : 0;
            }
        }
        return nfound;
    }
};

} // namespace

Partition::Partition(
        size_t nlist,
        size_t d,
        const float* centroids,
        faiss::MetricType metric,
        const float* list_bonus,
        bool borrow_centroids)
        : nlist_(nlist), d_(d), metric_(metric) {
    FAISS_THROW_IF_NOT_FMT(
            metric == faiss::METRIC_L2 || metric == faiss::METRIC_INNER_PRODUCT,
            "metric %d is not supported, only inner product and L2",
            int(metric));
    FAISS_THROW_IF_NOT_MSG(
            all_finite(nlist * d, centroids),
            "a centroid has a NaN or infinite value");
    panels_ = make_panels(nlist, d, centroids);
    half_norms_ = make_half_norms(nlist, d, centroids);
    if (list_bonus != nullptr) {
        bonus_.resize(nlist);
        std::copy(list_bonus, list_bonus + nlist, bonus_.mutable_data());
    }
    rows_ = AlignedBuffer<float>::borrow(centroids, nlist * d);
    if (!borrow_centroids) {
        rows_.mutable_data(); // copies
    }

    std::vector<double> sum(d);
    for (size_t j = 0; j < nlist * d; j++) {
        sum[j % d] += centroids[j];
    }
    mean_.resize(d);
    for (size_t i = 0; i < d; i++) {
        mean_.mutable_data()[i] = float(sum[i] / double(nlist));
    }

    size_t padded = round_up(nlist, kPanel);
    size_t bytes_per_row = round_up(d, 4);
    bytes_.resize(padded * bytes_per_row);
    byte_scales_.resize(padded);
    byte_terms_.resize(padded);
    std::fill(
            byte_terms_.mutable_data(),
            byte_terms_.mutable_data() + padded,
            -kInfinity);
    std::vector<float> shifted(d);
    for (size_t j = 0; j < nlist; j++) {
        float largest = 0;
        for (size_t i = 0; i < d; i++) {
            shifted[i] = centroids[j * d + i] - mean_[i];
            largest = std::max(largest, std::fabs(shifted[i]));
        }
        float inverse = largest > 0 ? 127 / largest : 0;
        uint8_t* panel =
                bytes_.mutable_data() + j / kPanel * kPanel * bytes_per_row;
        for (size_t i = 0; i < d; i++) {
            panel[i / 4 * 4 * kPanel + j % kPanel * 4 + i % 4] =
                    uint8_t(128 + std::lrint(shifted[i] * inverse));
        }
        byte_scales_.mutable_data()[j] = largest / 127;
        byte_terms_.mutable_data()[j] =
                metric == faiss::METRIC_L2
                        ? -dot(d, shifted.data(), shifted.data()) / 2
                        : dot(d, mean_.data(), shifted.data());
    }
}

size_t Partition::memory_usage() const {
    return panels_.allocated_bytes() + rows_.allocated_bytes() +
           half_norms_.allocated_bytes() + bytes_.allocated_bytes() +
           byte_scales_.allocated_bytes() + byte_terms_.allocated_bytes() +
           bonus_.allocated_bytes() + mean_.allocated_bytes();
}

size_t
Partition::estimate_memory(size_t nlist, size_t d, bool borrow_centroids) {
    size_t padded = round_up(nlist, kPanel);
    size_t floats =
            padded * (d + 3) + nlist + d + (borrow_centroids ? 0 : nlist * d);
    return padded * round_up(d, 4) + floats * sizeof(float);
}

float Partition::score(const float* query, int64_t list_no) const {
    const void* row = rows_.data() + list_no * d_;
    float out;
    kernels::FloatRowsArgs args{&row, 1, d_, query, &out};
    if (metric_ == faiss::METRIC_L2) {
        active_kernels().float_rows_l2(args);
        return -out / 2;
    }
    active_kernels().float_rows_dot(args);
    return out;
}

void Partition::assign(size_t n, const float* x, int64_t* lists) const {
    for_tiles((n + kTileRows - 1) / kTileRows, [&](size_t tile) {
        size_t begin = tile * kTileRows;
        find_nearest(
                std::min(kTileRows, n - begin),
                d_,
                x + begin * d_,
                nlist_,
                panels_.data(),
                half_norms_.data(),
                lists + begin);
    });
}

void Partition::assign_spilled(
        size_t n,
        const float* x,
        const int64_t* primary,
        float lambda,
        int64_t* spilled) const {
    FAISS_THROW_IF_NOT_FMT(
            lambda >= 0 && std::isfinite(lambda),
            "lambda is %g, expected a finite value of at least 0",
            lambda);
    for_tiles((n + kTileRows - 1) / kTileRows, [&](size_t tile) {
        size_t begin = tile * kTileRows;
        size_t rows = std::min(kTileRows, n - begin);
        const float* tile_x = x + begin * d_;
        AlignedBuffer<float> directions(rows * d_); // r / ||r||, or 0
        std::vector<float> along(rows);             // <x, r> / ||r||
        for (size_t i = 0; i < rows; i++) {
            int64_t list = primary[begin + i];
            if (list < 0) {
                continue;
            }
            float* r = directions.mutable_data() + i * d_;
            for (size_t a = 0; a < d_; a++) {
                r[a] = tile_x[i * d_ + a] - rows_[list * d_ + a];
            }
            float norm = std::sqrt(dot(d_, r, r));
            for (size_t a = 0; a < d_ && norm > 0; a++) {
                r[a] /= norm;
            }
            along[i] = dot(d_, tile_x + i * d_, r);
        }
        AlignedBuffer<float> products(2 * rows * kChunkPanels);
        float* with_x = products.mutable_data();
        float* with_r = with_x + rows * kChunkPanels;
        std::vector<Largest> best(rows);
        for (size_t c = 0; c < nlist_; c += kChunkPanels) {
            size_t size = std::min(kChunkPanels, nlist_ - c);
            size_t padded = round_up(size, kPanel);
            const float* panels = panels_.data() + c * d_;
            auto multiply = [&](const float* y, float* out) {
                active_kernels().panel_products(
                        {y, rows, d_, d_, panels, size, out, kChunkPanels});
            };
            multiply(tile_x, with_x);
            multiply(directions.data(), with_r);
            for (size_t i = 0; i < rows; i++) {
                // minus half of what is to be minimised, without ||x||^2
                float* score = with_x + i * kChunkPanels;
                const float* towards = with_r + i * kChunkPanels;
                for (size_t j = 0; j < padded; j++) {
                    float parallel = along[i] - towards[j];
                    score[j] -= half_norms_[c + j] +
                                lambda / 2 * parallel * parallel;
                }
                best[i].update(score, padded, int64_t(c));
            }
        }
        for (size_t i = 0; i < rows; i++) {
            int64_t first = primary[begin + i];
            bool spills = first >= 0 && best[i].index != first;
            spilled[begin + i] = spills ? best[i].index : -1;
        }
    });
}

void Partition::probes(
        size_t n,
        const float* x,
        size_t nprobe,
        int64_t* lists,
        float* scores) const {
    FAISS_THROW_IF_NOT_FMT(
            nprobe <= nlist_,
            "nprobe is %zd, expected at most nlist = %zd",
            nprobe,
            nlist_);
    auto probe = [&](size_t i) {
        probes_of_one(
                x + i * d_, nprobe, lists + i * nprobe, scores + i * nprobe);
    };
    if (n == 1) {
        probe(0);
        return;
    }
    for_tiles((n + kTileQueries - 1) / kTileQueries, [&](size_t tile) {
        size_t end = std::min(n, (tile + 1) * kTileQueries);
        for (size_t i = tile * kTileQueries; i < end; i++) {
            probe(i);
        }
    });
}

void Partition::probes_of_one(
        const float* x,
        size_t nprobe,
        int64_t* lists,
        float* scores) const {
    if (nprobe == 0) {
        return;
    }
    if (!all_finite(d_, x)) {
        std::fill(lists, lists + nprobe, -1);
        std::fill(scores, scores + nprobe, -kInfinity);
        return;
    }
    thread_local ProbeScratch s;
    float length = bonus_.empty() ? 0 : std::sqrt(dot(d_, x, x));
    const kernels::Kernels& kernels = active_kernels();
    size_t wanted = nprobe + nprobe / 4 + 8;
    size_t padded = round_up(nlist_, kPanel);
    size_t columns = table_columns(wanted);
    s.found.resize(std::max(s.found.size(), padded + 1));
    size_t nfound = 0;
    if (2 * columns <= padded) {
        float step = s.quantize(d_, x, mean_.data());
        s.products.resize(padded);
        int32_t* products = s.products.mutable_data();
        kernels.byte_panel_products(
                {s.query.data(),
                 s.query.size(),
                 bytes_.data(),
                 nlist_,
                 products});
        s.scores.resize(round_up(padded, columns));
        float* approximate = s.scores.mutable_data();
        const float* byte_scales = byte_scales_.data();
        const float* byte_terms = byte_terms_.data();
        int32_t excess = 128 * s.sum; // centroid codes are stored + 128
        for (size_t j = 0; j < padded; j++) {
            float score = step * byte_scales[j] * float(products[j] - excess) +
                          byte_terms[j];
            // no NaN, should huge values overflow
            approximate[j] = score > -kInfinity ? score : -kInfinity;
        }
        for (size_t j = 0; j < bonus_.size(); j++) {
            approximate[j] += length * bonus_[j];
        }
        std::fill(
                approximate + padded,
                approximate + s.scores.size(),
                -kInfinity);
        nfound = s.select(columns, wanted);
    }
    if (nfound < nprobe) { // few lists, or overflow: no preselection
        for (nfound = 0; nfound < nlist_; nfound++) {
            s.found[nfound] = uint32_t(nfound);
        }
    }

    s.rows.resize(nfound);
    s.exact.resize(nfound);
    s.keys.resize(nfound);
    for (size_t f = 0; f < nfound; f++) {
        s.rows[f] = rows_.data() + s.found[f] * d_;
    }
    bool l2 = metric_ == faiss::METRIC_L2;
    (l2 ? kernels.float_rows_l2 : kernels.float_rows_dot)(
            {s.rows.data(), nfound, d_, x, s.exact.data()});
    for (size_t f = 0; f < nfound; f++) {
        float& score = s.exact[f];
        score = l2 ? -score / 2 : score;
        score = score >= -kInfinity ? score : -kInfinity;
        float rank =
                bonus_.empty() ? score : score + length * bonus_[s.found[f]];
        s.keys[f] = {key_of(rank, s.found[f]), score};
    }
    auto better = [](auto& a, auto& b) { return a.first > b.first; };
    auto keys = s.keys.begin();
    std::nth_element(keys, keys + (nprobe - 1), s.keys.end(), better);
    std::sort(keys, keys + nprobe, better);
    for (size_t p = 0; p < nprobe; p++) {
        lists[p] = int64_t(uint32_t(~keys[p].first));
        scores[p] = keys[p].second;
    }
}

} // namespace faiss_ext

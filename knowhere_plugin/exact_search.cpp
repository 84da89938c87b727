#include <knowhere_plugin/exact_search.h>

#include <algorithm>

#include <faiss_ext/kernels/dispatch.h>

#include <knowhere_plugin/nearest.h>

namespace knowhere_plugin {

namespace {

/// rows that a batch of queries visits together: half of a 1 MB L2 cache
constexpr int64_t kTileBytes = 512 * 1024;

/// take(query number, row ids, scores, how many) for each query and tile.
/// Scores: squared distances, or inner products.
template <class Take>
void score_tiles(
        const faiss::IndexFlat& rows,
        const faiss::IDSelector* sel,
        int64_t n,
        const float* x,
        Take&& take) {
    const auto& kernels = faiss_ext::active_kernels();
    auto kernel = rows.metric_type == faiss::METRIC_L2 ? kernels.float_rows_l2
                                                       : kernels.float_rows_dot;
    const float* all = rows.get_xb();
    int64_t d = rows.d;
    int64_t tile = std::clamp<int64_t>(
            kTileBytes / (d * int64_t(sizeof(float))), 16, 4096);
    std::vector<const void*> pointers;
    std::vector<int64_t> ids;
    std::vector<float> scores(tile);
    for (int64_t first = 0; first < rows.ntotal; first += tile) {
        pointers.clear();
        ids.clear();
        int64_t last = std::min(first + tile, int64_t(rows.ntotal));
        for (int64_t id = first; id < last; id++) {
            if (sel == nullptr || sel->is_member(id)) {
                pointers.push_back(all + id * d);
                ids.push_back(id);
            }
        }
        for (int64_t q = 0; q < n && !ids.empty(); q++) {
            kernel({pointers.data(),
                    ids.size(),
                    size_t(d),
                    x + q * d,
                    scores.data()});
            take(q, ids.data(), scores.data(), ids.size());
        }
    }
}

} // namespace

void exact_search(
        const faiss::IndexFlat& rows,
        const faiss::IDSelector* sel,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels) {
    float sign = rows.metric_type == faiss::METRIC_L2 ? 1.f : -1.f;
    std::vector<Nearest> nearest(n, Nearest(size_t(k)));
    score_tiles(
            rows,
            sel,
            n,
            x,
            [&](int64_t q, const int64_t* ids, const float* scores, size_t m) {
                float worst = nearest[q].worst();
                for (size_t i = 0; i < m; i++) {
                    // ids ascend: an equal distance is never nearer
                    if (sign * scores[i] < worst) {
                        nearest[q].offer(sign * scores[i], ids[i]);
                        worst = nearest[q].worst();
                    }
                }
            });
    std::fill_n(labels, n * k, -1);
    for (int64_t q = 0; q < n; q++) {
        int64_t at = q * k;
        for (auto [distance, id] : nearest[q].sorted()) {
            distances[at] = sign * distance;
            labels[at++] = id;
        }
    }
}

Hits exact_range(
        const faiss::IndexFlat& rows,
        const faiss::IDSelector* sel,
        const float* query,
        float radius) {
    bool l2 = rows.metric_type == faiss::METRIC_L2;
    Hits hits;
    score_tiles(
            rows,
            sel,
            1,
            query,
            [&](int64_t, const int64_t* ids, const float* scores, size_t m) {
                for (size_t i = 0; i < m; i++) {
                    if (l2 ? scores[i] < radius : scores[i] > radius) {
                        hits.emplace_back(ids[i], scores[i]);
                    }
                }
            });
    return hits;
}

} // namespace knowhere_plugin

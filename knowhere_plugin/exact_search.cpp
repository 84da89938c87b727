#include <knowhere_plugin/exact_search.h>

#include <algorithm>
#include <cstring>

#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/row_sample.h>
#include <faiss_ext/memory/row_types.h>
#include <faiss_ext/model/index_state.h>

#include <knowhere_plugin/nearest.h>

namespace knowhere_plugin {

namespace {

/// rows that a batch of queries visits together: half of a 1 MB L2 cache
constexpr int64_t kTileBytes = 512 * 1024;

size_t tile_rows(int64_t d) {
    return size_t(std::clamp<int64_t>(
            kTileBytes / (d * int64_t(sizeof(float))), 16, 4096));
}

/// Nearest first. @param sign  -1: inner products were offered negated
void write_nearest(
        std::vector<Nearest>& nearest,
        float sign,
        const SearchRequest& request) {
    std::fill_n(request.labels, request.n * request.k, -1);
    for (size_t q = 0; q < nearest.size(); q++) {
        int64_t at = int64_t(q) * request.k;
        for (auto [distance, id] : nearest[q].sorted()) {
            request.distances[at] = sign * distance;
            request.labels[at++] = id;
        }
    }
}

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
    const int64_t tile = int64_t(tile_rows(d));
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

void exact_search(const faiss::IndexFlat& rows, const SearchRequest& request) {
    float sign = rows.metric_type == faiss::METRIC_L2 ? 1.f : -1.f;
    std::vector<Nearest> nearest(request.n, Nearest(size_t(request.k)));
    score_tiles(
            rows,
            request.filter.selector(),
            request.n,
            request.queries,
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
    write_nearest(nearest, sign, request);
}

ListRows::ListRows(const faiss_ext::IndexState& state)
        : d_(state.ivf.d),
          l2_(state.is_l2()),
          unit_(state.options.normalize),
          type_(state.options.raw_type) {
    const faiss_ext::ScaNNLists& lists = *state.lists;
    const float sign = l2_ ? 1.f : -1.f;
    for (size_t l = 0; l < lists.nlist; l++) {
        const faiss_ext::ScaNNList& list = lists.list(l);
        for (size_t i = 0; i < list.size(); i++) {
            const uint8_t* row = lists.raw_row(l, i);
            float inverse_length = 1;
            if (unit_) {
                std::memcpy(
                        &inverse_length,
                        row + lists.layout().raw_value_bytes(),
                        sizeof(inverse_length));
            }
            all_.pointers.push_back(row);
            all_.ids.push_back(list.ids[i]);
            all_.factors.push_back(sign * inverse_length);
            scores_are_floats_ = scores_are_floats_ && inverse_length >= 0;
        }
    }
}

ListRows::Rows ListRows::passing(const faiss::IDSelector& sel) const {
    Rows some;
    for (size_t i = 0; i < all_.ids.size(); i++) {
        if (sel.is_member(all_.ids[i])) {
            some.pointers.push_back(all_.pointers[i]);
            some.ids.push_back(all_.ids[i]);
            some.factors.push_back(all_.factors[i]);
        }
    }
    return some;
}

const float* ListRows::moderate_queries(
        const SearchRequest& request,
        std::vector<float>& scaled) const {
    const size_t n = size_t(request.n), d = size_t(d_);
    if (unit_) {
        scaled.assign(request.queries, request.queries + n * d);
        faiss_ext::scale_to_unit(n, d, scaled.data());
        return scaled.data();
    }
    std::vector<float> scales;
    const bool moderate =
            l2_ ||
            faiss_ext::moderate_queries(
                    n, d, request.queries, scaled, scales) == request.queries;
    return moderate ? request.queries : nullptr;
}

bool ListRows::search(const SearchRequest& request) const {
    std::vector<float> scaled;
    const float* queries =
            scores_are_floats_ ? moderate_queries(request, scaled) : nullptr;
    if (queries == nullptr) {
        return false;
    }
    const faiss::IDSelector* sel = request.filter.selector();
    const Rows some = sel == nullptr ? Rows() : passing(*sel);
    const Rows& rows = sel == nullptr ? all_ : some;
    const auto& kernels = faiss_ext::active_kernels();
    const auto kernel = l2_ ? faiss_ext::rows_l2(kernels, type_)
                            : faiss_ext::rows_dot(kernels, type_);
    const size_t tile = tile_rows(d_);
    std::vector<float> scores(tile);
    std::vector<Nearest> nearest(request.n, Nearest(size_t(request.k)));
    for (size_t first = 0; first < rows.ids.size(); first += tile) {
        const size_t count = std::min(tile, rows.ids.size() - first);
        const float* factors = rows.factors.data() + first;
        const int64_t* ids = rows.ids.data() + first;
        for (int64_t q = 0; q < request.n; q++) {
            kernel({.rows = rows.pointers.data() + first,
                    .n = count,
                    .d = size_t(d_),
                    .query = queries + q * d_,
                    .out = scores.data()});
            if (!faiss_ext::all_finite(count, scores.data())) {
                return false;
            }
            float worst = nearest[q].worst();
            for (size_t i = 0; i < count; i++) {
                const float distance = factors[i] * scores[i];
                if (distance <= worst) { // offer() compares ids of equal ones
                    nearest[q].offer(distance, ids[i]);
                    worst = nearest[q].worst();
                }
            }
        }
    }
    write_nearest(nearest, l2_ ? 1.f : -1.f, request);
    return true;
}

Hits exact_range(const faiss::IndexFlat& rows, const RangeRequest& request) {
    const float radius = request.radius;
    bool l2 = rows.metric_type == faiss::METRIC_L2;
    Hits hits;
    score_tiles(
            rows,
            request.filter.selector(),
            1,
            request.query,
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

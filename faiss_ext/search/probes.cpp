#include <faiss_ext/search/probes.h>

#include <algorithm>
#include <cmath>

#include <faiss_ext/partition/coarse_quantizer.h>

namespace faiss_ext {

PreparedQueries
prepare_queries(const IndexState& state, size_t n, const float* x) {
    const size_t d = state.d();
    PreparedQueries queries;
    if (!state.is_l2() && !state.options.normalize) {
        check_finite(n, d, x, "query");
        queries.x = moderate_queries(n, d, x, queries.moderate, queries.scales);
    } else {
        queries.x = prepare_rows(state, n, x, "query", queries.unit);
    }
    queries.exact = state.is_l2() ? x : queries.x;
    return queries;
}

void find_probes(
        const IndexState& state,
        size_t n,
        const float* x,
        size_t count,
        const ProbeParameters& parameters,
        int64_t* lists,
        float* scores) {
    if (state.quantizer_is_flat) {
        state.partition->probes(n, x, count, parameters.scores, lists, scores);
        return;
    }
    search_quantizer(
            *state.ivf.quantizer,
            int64_t(n),
            x,
            int64_t(count),
            scores,
            lists,
            parameters.quantizer_params);
    if (state.is_l2()) {
        for (size_t i = 0; i < n * count; i++) {
            scores[i] *= -0.5f;
        }
    }
}

void find_filled_probes(
        const IndexState& state,
        size_t n,
        const float* x,
        size_t count,
        const ProbeParameters& parameters,
        int64_t* lists,
        float* scores) {
    const ScaNNLists& held = *state.lists;
    const size_t nlist = held.nlist;
    const size_t d = state.d();
    find_probes(state, n, x, count, parameters, lists, scores);
    auto is_empty = [&](int64_t list) {
        return list >= 0 && size_t(list) < nlist && held.list(list).size() == 0;
    };
    std::vector<int64_t> found;
    std::vector<float> found_scores;
    for (size_t i = 0; i < n; i++) {
        int64_t* to = lists + i * count;
        float* to_scores = scores + i * count;
        if (std::none_of(to, to + count, is_empty)) {
            continue;
        }
        found.assign(to, to + count);
        found_scores.assign(to_scores, to_scores + count);
        for (size_t filled = 0;;) {
            filled = 0;
            for (size_t l = 0; l < found.size() && filled < count; l++) {
                if (!is_empty(found[l])) {
                    to[filled] = found[l];
                    to_scores[filled++] = found_scores[l];
                }
            }
            if (filled == count || found.size() == nlist) {
                std::fill(to + filled, to + count, -1);
                break;
            }
            constexpr size_t kGrowth = 4;
            const size_t asked = std::min(nlist, kGrowth * found.size());
            found.resize(asked);
            found_scores.resize(asked);
            find_probes(
                    state,
                    1,
                    x + i * d,
                    asked,
                    parameters,
                    found.data(),
                    found_scores.data());
        }
    }
}

std::vector<float> scores_from_distances(
        const IndexState& state,
        size_t n,
        const float* x,
        const PreparedQueries& queries,
        size_t per_query,
        const float* distances) {
    const size_t d = state.d();
    std::vector<float> scores(distances, distances + n * per_query);
    for (size_t i = 0; i < n; i++) {
        float factor = state.is_l2() ? -0.5f : queries.scale(i);
        if (state.options.normalize) {
            // the distances are those of the query before it was normalised
            const float* given = x + i * d;
            size_t largest = std::max_element(
                                     given,
                                     given + d,
                                     [](float a, float b) {
                                         return std::fabs(a) < std::fabs(b);
                                     }) -
                             given;
            factor = given[largest] == 0
                             ? 0
                             : queries.x[i * d + largest] / given[largest];
        }
        for (size_t j = 0; j < per_query; j++) {
            scores[i * per_query + j] *= factor;
        }
    }
    return scores;
}

} // namespace faiss_ext

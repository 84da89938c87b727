#include <knowhere_plugin/graph_search.h>

#include <algorithm>
#include <functional>
#include <queue>

#include <faiss_ext/kernels/dispatch.h>

#include <knowhere_plugin/nearest.h>

namespace knowhere_plugin {

GraphSearch::GraphSearch(const faiss::IndexHNSW& index)
        : graph_(index.hnsw),
          rows_(dynamic_cast<const faiss::IndexFlat&>(*index.storage)),
          kernels_(faiss_ext::active_kernels()),
          sign_(index.metric_type == faiss::METRIC_L2 ? 1.f : -1.f) {}

void GraphSearch::score_found(const float* query) {
    auto kernel = sign_ > 0 ? kernels_.float_rows_l2 : kernels_.float_rows_dot;
    pointers_.clear();
    for (Row row : found_) {
        pointers_.push_back(rows_.get_xb() + int64_t(row) * rows_.d);
    }
    distances_.resize(found_.size());
    kernel({pointers_.data(),
            pointers_.size(),
            size_t(rows_.d),
            query,
            distances_.data()});
    for (float& distance : distances_) {
        distance *= sign_;
    }
}

GraphSearch::Row GraphSearch::descend(const float* query) {
    Row nearest = graph_.entry_point;
    found_ = {nearest};
    score_found(query);
    float distance = distances_[0];
    for (int level = graph_.max_level; level > 0; level--) {
        for (bool moved = true; moved;) {
            moved = false;
            size_t begin, end;
            graph_.neighbor_range(nearest, level, &begin, &end);
            found_.clear();
            for (size_t i = begin; i < end && graph_.neighbors[i] >= 0; i++) {
                found_.push_back(graph_.neighbors[i]);
            }
            score_found(query);
            for (size_t i = 0; i < found_.size(); i++) {
                if (distances_[i] < distance) {
                    distance = distances_[i];
                    nearest = found_[i];
                    moved = true;
                }
            }
        }
    }
    return nearest;
}

bool GraphSearch::visit(Row row) {
    uint64_t bit = uint64_t(1) << row % 64;
    bool first = (visited_[row / 64] & bit) == 0;
    visited_[row / 64] |= bit;
    return first;
}

std::vector<std::pair<float, int64_t>> GraphSearch::nearest(
        const float* query,
        size_t ef,
        const faiss::IDSelector* sel) {
    Nearest best(ef);
    if (graph_.entry_point < 0) {
        return best.sorted();
    }
    // rows whose links were not followed yet, nearest first
    using ToFollow = std::pair<float, Row>;
    std::priority_queue<ToFollow, std::vector<ToFollow>, std::greater<>>
            to_follow;
    visited_.assign((rows_.ntotal + 63) / 64, 0);
    auto keep_found = [&] {
        score_found(query);
        for (size_t i = 0; i < found_.size(); i++) {
            if (distances_[i] > best.worst()) {
                continue;
            }
            to_follow.emplace(distances_[i], found_[i]);
            if (sel == nullptr || sel->is_member(found_[i])) {
                best.offer(distances_[i], found_[i]);
            }
        }
    };
    found_ = {descend(query)};
    visit(found_[0]);
    keep_found();
    while (!to_follow.empty() && to_follow.top().first <= best.worst()) {
        Row row = to_follow.top().second;
        to_follow.pop();
        size_t begin, end;
        graph_.neighbor_range(row, 0, &begin, &end);
        found_.clear();
        for (size_t i = begin; i < end && graph_.neighbors[i] >= 0; i++) {
            if (visit(graph_.neighbors[i])) {
                found_.push_back(graph_.neighbors[i]);
            }
        }
        keep_found();
    }
    return best.sorted();
}

} // namespace knowhere_plugin

/*
 * What is in a set of metamorphic_kinds.h: its nearest rows in doubles, and what
 * indexes of Faiss find of them.
 */

#pragma once

#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIVFPQ.h>

#include "index_fixtures.h"
#include "metamorphic_kinds.h"

namespace metamorphic {

/// Neighbours asked for, everywhere.
constexpr size_t k = 10;

inline faiss::MetricType faiss_metric(Metric metric) {
    return metric == L2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

/// A set with its neighbours.
class Exact {
 public:
    Exact(Set set, Metric metric) : set_(std::move(set)), metric_(metric) {
        if (metric == Cosine) {
            set_.rows = reference::normalized(set_.rows, set_.d);
            set_.queries = reference::normalized(set_.queries, set_.d);
            set_.training = reference::normalized(set_.training, set_.d);
        }
        for (size_t q = 0; q < set_.nq(); q++) {
            std::vector<double> scores = scores_of(q);
            std::vector<size_t> order(scores.size());
            std::iota(order.begin(), order.end(), 0);
            size_t last = std::min(k, order.size()) - 1;
            std::nth_element(
                    order.begin(),
                    order.begin() + last,
                    order.end(),
                    [&](size_t a, size_t b) { return scores[a] > scores[b]; });
            size_t row = order[last];
            lowest_.push_back(scores[row] - rounding(q, row));
        }
    }

    /// Unit rows for the cosine.
    const Set& set() const {
        return set_;
    }

    Metric metric() const {
        return metric_;
    }

    /// Larger is better: the product, or minus the squared distance.
    double score(size_t q, size_t row) const {
        const float* a = &set_.queries[q * set_.d];
        const float* b = &set_.rows[row * set_.d];
        return metric_ == L2 ? -reference::squared_distance(set_.d, a, b)
                             : reference::dot(set_.d, a, b);
    }

    /// What floats may be off.
    double rounding(size_t q, size_t row) const {
        const float* a = &set_.queries[q * set_.d];
        const float* b = &set_.rows[row * set_.d];
        return metric_ == L2 ? 1e-5 * reference::squared_distance(set_.d, a, b)
                             : 1e-6 * std::sqrt(reference::dot(set_.d, a, a)) *
                                       std::sqrt(reference::dot(set_.d, b, b));
    }

    /// Share of k rows that are as near as the k nearest, so that ties do not
    /// count.
    double recall(const fixtures::Hits& hits) const {
        size_t good = 0;
        for (size_t q = 0; q < set_.nq(); q++) {
            auto row = hits.labels.begin() + q * k;
            for (int64_t label : std::set<int64_t>(row, row + k)) {
                good += label >= 0 && score(q, label) >= lowest_[q];
            }
        }
        return double(good) / double(set_.nq() * k);
    }

    /// Answers whose distance is not that of their row.
    size_t wrong_distances(const fixtures::Hits& hits) const {
        size_t wrong = 0;
        for (size_t i = 0; i < hits.labels.size(); i++) {
            int64_t label = hits.labels[i];
            double value = hits.distances[i] * (metric_ == L2 ? -1 : 1);
            wrong += label >= 0 && !(std::abs(value - score(i / k, label)) <=
                                     rounding(i / k, label));
        }
        return wrong;
    }

 private:
    /// Of all rows. The loops are over rows, a tile at a time: compilers
    /// vectorise them.
    std::vector<double> scores_of(size_t q) {
        constexpr size_t kTile = 256;
        size_t n = set_.n(), d = set_.d;
        if (tiles_.empty()) {
            tiles_.resize((n + kTile - 1) / kTile * kTile * d);
            for (size_t i = 0; i < n; i++) {
                for (size_t j = 0; j < d; j++) {
                    tiles_[(i / kTile * d + j) * kTile + i % kTile] =
                            set_.rows[i * d + j];
                }
            }
        }
        std::vector<double> scores;
        for (size_t begin = 0; begin < n; begin += kTile) {
            double sums[kTile] = {};
            for (size_t j = 0; j < d; j++) {
                double value = set_.queries[q * d + j];
                const float* column = &tiles_[begin * d + j * kTile];
                if (metric_ == L2) {
                    for (size_t i = 0; i < kTile; i++) {
                        double difference = value - column[i];
                        sums[i] -= difference * difference;
                    }
                } else {
                    for (size_t i = 0; i < kTile; i++) {
                        sums[i] += value * column[i];
                    }
                }
            }
            scores.insert(
                    scores.end(), sums, sums + std::min(kTile, n - begin));
        }
        return scores;
    }

    Set set_;
    Metric metric_;
    std::vector<float> tiles_;
    std::vector<double> lowest_; ///< score of the k-th, less rounding
};

/// Fills an index of Faiss and searches it.
inline double
faiss_recall(faiss::IndexIVF& index, const Exact& exact, size_t nprobe) {
    const Set& set = exact.set();
    index.cp.min_points_per_centroid = 1; // no warnings
    const std::vector<float>& training = set.trained_on();
    index.train(training.size() / set.d, training.data());
    index.add(set.n(), set.rows.data());
    index.nprobe = nprobe;
    return exact.recall(fixtures::search(index, set.queries, k));
}

/// What IndexIVFFlat finds, with the lists that Faiss makes.
inline double faiss_flat_recall(
        const Exact& exact,
        size_t nlist,
        size_t nprobe,
        int seed = 1234) {
    size_t d = exact.set().d;
    auto metric = faiss_metric(exact.metric());
    faiss::IndexFlat quantizer(d, metric);
    faiss::IndexIVFFlat index(&quantizer, d, nlist, metric);
    index.cp.seed = seed;
    return faiss_recall(index, exact, nprobe);
}

/// What IndexIVFPQ finds, all lists visited, with codes of 4 bits, one for two
/// dimensions or more.
inline double faiss_codes_recall(const Exact& exact, size_t nlist) {
    size_t d = exact.set().d;
    size_t codes = (d + 1) / 2;
    while (d % codes != 0) {
        codes--;
    }
    auto metric = faiss_metric(exact.metric());
    faiss::IndexFlat quantizer(d, metric);
    faiss::IndexIVFPQ index(&quantizer, d, nlist, codes, 4, metric);
    index.pq.cp.min_points_per_centroid = 1;
    return faiss_recall(index, exact, nlist);
}

} // namespace metamorphic

/*
 * One checked search of a node: its queries, the rows it may return, and where
 * its results go.
 *
 * In: a host's DataSet, Config and bits, read by node_search.cpp. Out: one
 * struct that all steps of a search share; next: a node's search_index().
 */

#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <faiss/impl/IDSelector.h>

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/parameters.h>

namespace knowhere_plugin {

/// (id, distance)
using Hits = std::vector<std::pair<int64_t, float>>;

/// How much of the index a search visits.
struct SearchScope {
    /// factor of the parameters: lists visited, rows kept in a graph
    int64_t factor = 1;
    /// every row, scored as well as the index can
    bool complete = false;
};
constexpr SearchScope kAsAsked{1, false};
constexpr SearchScope kWholeIndex{1, true};

/// The inverted bits of a call: a set bit is a row that passes.
class RowFilter {
 public:
    /// Copies the bits. @param rows  rows of the index
    RowFilter(const BitsetView& filtered, int64_t rows);

    /// nullptr if every row passes
    faiss::IDSelector* selector() const {
        return selector_.get();
    }
    int64_t rows() const {
        return rows_;
    }
    /// rows that pass
    int64_t passing() const {
        return passing_;
    }

 private:
    std::vector<uint64_t> words_;
    std::unique_ptr<faiss::IDSelectorBitmap> selector_;
    int64_t rows_;
    int64_t passing_;
};

/// The k nearest of n queries.
struct SearchRequest {
    const Parameters& parameters;
    const RowFilter& filter;
    SearchScope scope;
    int64_t n;
    int64_t d;
    const float* queries; ///< size n * d
    int64_t k;
    float* distances; ///< size n * k
    int64_t* labels;  ///< size n * k; -1 beyond what was found

    const float* query(int64_t q) const {
        return queries + q * d;
    }
    /// Queries first .. first + count - 1 and their results.
    SearchRequest part(int64_t first, int64_t count) const {
        SearchRequest some = *this;
        some.n = count;
        some.queries += first * d;
        some.distances += first * k;
        some.labels += first * k;
        return some;
    }
};

/// Rows nearer to one query than the radius.
struct RangeRequest {
    const Parameters& parameters;
    const RowFilter& filter;
    SearchScope scope;
    const float* query; ///< size d of the index
    float radius;
};

} // namespace knowhere_plugin

/*
 * The way of one query: probes -> filter -> table -> scan -> candidates ->
 * refine -> rerank -> results. search.cpp runs these steps for one query at a
 * time, or scans a list for several queries that visit it.
 */

#pragma once

#include <cstdint>
#include <vector>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/candidates.h>
#include <faiss_ext/search/lookup_table.h>
#include <faiss_ext/search/rerank.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

/// The part of a list that one query scans.
struct Segment {
    const ScaNNLists* lists;
    uint32_t list;
    uint32_t position; ///< of the list's first vector in the query's numbering
    float bias;        ///< score of the list's centroid
};

/// State of one query; reused from query to query, so that searching does not
/// allocate once it is warm.
class QuerySearch {
 public:
    /** @param query  size d, normalised if the index does; borrowed until
     *         write_results(), as is exact
     *  @param exact  size d, the same for raw rows (PreparedQueries::exact) */
    void begin(
            const IndexState& state,
            const SearchPlan& plan,
            const kernels::Kernels& kernels,
            const float* query,
            const float* exact,
            ScaNNSearchStats& stats);

    /** Appends lists to visit, best first. Lists of -1 are skipped.
     * @param scores  larger is better (partition.h) */
    void add_probes(size_t n, const int64_t* lists, const float* scores);

    const std::vector<Segment>& segments() const {
        return segments_;
    }

    /// Tests the rows of the segments added since the last call by the plan's
    /// filter, until more than `enough` have passed.
    void filter_rows(size_t enough = SIZE_MAX);

    /** Where many rows pass: tests the rows of the first segments only.
     * @return whether scan_all() should test those of the others, as far as it
     *         finds them; if not, filter_rows() has to follow */
    bool filter_later();

    /// Rows that pass the filter, of the segments it has tested.
    size_t passing() const {
        return passing_;
    }

    /// Finds candidates in all segments, for this query alone: among the rows
    /// that pass the filter, if there is one.
    void scan_all();

    /// Scans one segment for several queries that all have it; without a
    /// filter.
    /// @param queries   at most kMaxScanQueries, with their segment's index
    struct Visit {
        QuerySearch* query;
        size_t segment;
    };
    /// Before scan(): what scan_all() does for itself.
    void build_table();
    static void scan(const Visit* visits, size_t n);

    /// Rescores the candidates and writes k results, padded with -1.
    void write_results(float* distances, int64_t* labels);

 private:
    int32_t integer_bias(float bias) const;
    void begin_visits();
    void scan_visits(size_t begin, size_t end);
    size_t drop_filtered(uint64_t* keys, size_t n, size_t& segment);
    bool keeps_all() const;
    bool rescoring_all_pays() const;
    void locate_candidates();
    void locate_passing();
    void locate_apart();
    void locate_places();
    void begin_locating(size_t most);
    void locate(const Segment& segment, uint32_t offset, float score);
    void output(float* distances, int64_t* labels);
    float list_score(uint32_t list);
    /// a row may be found more than once
    bool may_repeat() const {
        return apart_ > 0 || state_->spilled != nullptr;
    }

    const IndexState* state_ = nullptr;
    const SearchPlan* plan_ = nullptr;
    const kernels::Kernels* kernels_ = nullptr;
    ScaNNSearchStats* stats_ = nullptr;
    const float* query_ = nullptr;
    const float* exact_ = nullptr;       ///< for raw rows
    const float* from_origin_ = nullptr; ///< query_ less the codes' origin
    float reference_bias_ = 0;           ///< integer biases count from it
    uint32_t term_mult_ = 0;
    uint64_t positions_ = 0; ///< vectors in all segments
    size_t passing_ = 0;
    size_t blocks_passing_ = 0; ///< packed blocks with such a row
    size_t filtered_ = 0;       ///< segments that the filter has tested
    bool rescore_all_ = false;  ///< all rows that pass are candidates
    size_t apart_ = 0;          ///< rows of all segments that are kept apart
    std::vector<float> shifted_;
    std::vector<float> rotated_;
    LookupTable table_;
    Candidates candidates_;
    std::vector<Segment> segments_;
    std::vector<Row> rows_;
    Rescorer rescorer_;
    std::vector<std::pair<float, int64_t>> results_;
    // Spilled copies only: scores of the lists seen by this query, and the
    // places of its candidates as an open hash table.
    std::vector<float> list_scores_; ///< NaN: not seen
    std::vector<uint32_t> lists_seen_;
    std::vector<uint64_t> places_;
    std::vector<kernels::ScanVisit> visits_;
    std::vector<const int64_t*> ids_; ///< of keys that the filter tests
    std::vector<uint32_t> masks_;     ///< the filter's, of all segments
};

} // namespace faiss_ext

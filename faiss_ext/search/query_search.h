/*
 * The way of one query: probes -> route -> candidates -> refine -> rerank ->
 * results. Its parts are in
 *  - query_search.cpp: probes, the routes, table and scan
 *  - query_filter.cpp: which rows pass, and further probes if few pass
 *  - query_results.cpp: places of the candidates, their rescoring, results.
 * resumable_scan.h goes on where a query ends.
 *
 * In: a plan, a query, its lists. Out: its results; batch_search.h runs many.
 */

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/candidates.h>
#include <faiss_ext/search/lookup_table.h>
#include <faiss_ext/search/rerank.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

/// State of one query; reused from query to query, so that searching does not
/// allocate once it is warm.
class QuerySearch {
 public:
    /** @param query  size d, normalised if the index does; borrowed until
     *         the results are written, as is exact
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

    /** Searches the probes by the query's route, refines. Raw rows of a file
     * begin to be read, so that several queries may be found before the first
     * is finished.
     * @return rows that are being read */
    size_t find();
    /// Reranks what was found and writes k results, padded with -1.
    void finish(float* distances, int64_t* labels);

    // Instead of find(), for queries without a filter that visit the same lists:
    // build_table() for each, scan_shared() for each list, then find_scanned().

    /// Lists that are not empty; spilled copies follow their list.
    const std::vector<kernels::Probe>& probes() const {
        return probes_;
    }
    void build_table();
    struct SharedProbe {
        QuerySearch* query;
        const kernels::Probe* probe; ///< one of query->probes()
    };
    /// Scans a list for queries that all visit it.
    /// @param n  at most kMaxScanQueries
    static void scan_shared(const SharedProbe* shared, size_t n);
    size_t find_scanned();

 protected:
    const ScaNNList& list_of(const kernels::Probe& probe) const {
        return (probe.spilled ? state_->spilled : state_->lists)
                ->list(probe.list);
    }

    // query_search.cpp
    Route choose_route();
    void scan(bool by_masks);
    void scan_then_filter();
    int32_t integer_bias(float score) const;
    void set_biases_and_masks(size_t begin = 0, size_t word = 0);
    template <class Lend, class TakeBack>
    void scan_probes(
            size_t begin,
            size_t end,
            bool by_masks,
            Lend&& lend,
            TakeBack&& take_back);
    template <class TakeBack>
    void scan_candidates(
            size_t begin,
            size_t end,
            bool by_masks,
            TakeBack&& take_back);

    // query_filter.cpp
    void filter_probes();
    void test_rows(size_t enough = SIZE_MAX);
    bool probes_suffice(size_t visited) const;
    void extend_probes(bool test);
    size_t further_lists(
            size_t wanted,
            std::vector<bool>& seen,
            std::vector<int64_t>& lists,
            std::vector<float>& scores) const;
    size_t drop_filtered(uint64_t* keys, size_t n, size_t& probe);

    // query_results.cpp
    void locate_candidates();
    void locate_keys(const uint64_t* keys, size_t n);
    void locate_passing(size_t begin = 0, size_t word = 0);
    void locate_kept_apart(size_t begin = 0);
    void locate_by_direct_map();
    void begin_locating(size_t most);
    void reserve_places(size_t more);
    void forget_place(uint32_t list, uint32_t offset);
    size_t slot_of(uint64_t place) const;
    void locate(const kernels::Probe& probe, uint32_t offset, float score);
    bool is_new(uint32_t list, uint32_t offset);
    float list_score(uint32_t list);
    size_t refine();
    void rerank();
    /// @param distances, labels  out, size k, best first
    void write_results(size_t k, float* distances, int64_t* labels);
    void count_expected_recall();
    /// entries of a row in the lists
    size_t copies() const {
        return state_->spilled != nullptr ? 2 : 1;
    }
    /// whether a row may be found more than once
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
    std::vector<float> shifted_;
    std::vector<float> rotated_;

    std::vector<kernels::Probe> probes_;
    ProbedRows probed_;
    size_t visited_ = 0;       ///< lists
    size_t apart_ = 0;         ///< rows of the probes that are kept apart
    float reference_bias_ = 0; ///< subtracted from biases: small integers

    size_t tested_ = 0;               ///< probes that the filter has tested
    std::vector<uint32_t> masks_;     ///< theirs, one after the other
    std::vector<const int64_t*> ids_; ///< of keys that the filter tests

    LookupTable table_;
    uint32_t term_mult_ = 0;
    Candidates candidates_;

    std::vector<Candidate> located_;
    Rescorer rescorer_;
    std::vector<std::pair<float, int64_t>> results_;
    // Spilled copies only: scores of the lists seen by this query, and the
    // places of its candidates as an open hash table.
    std::vector<float> list_scores_; ///< NaN: not seen
    std::vector<uint32_t> lists_seen_;
    std::vector<uint64_t> places_;
    size_t place_count_ = 0; ///< in places_
};

/** Scans probes_[begin] .. [end - 1].
 * @param by_masks   only rows that their masks have
 * @param lend       gives room for keys, void(kernels::ScanQuery&)
 * @param take_back  takes the keys, void(const kernels::ScanQuery&), whenever
 *        the kernel pauses */
template <class Lend, class TakeBack>
void QuerySearch::scan_probes(
        size_t begin,
        size_t end,
        bool by_masks,
        Lend&& lend,
        TakeBack&& take_back) {
    // all lists and their spilled copies have one layout
    const PackedLayout layout = state_->lists->layout().packed();
    kernels::ScanListsArgs args{
            .probes = probes_.data(),
            .n = end,
            .groups = layout.groups(),
            .has_term = layout.has_term,
            .has_masks = by_masks,
            .probe = begin,
            .begin = 0};
    kernels::ScanQuery query{};
    query.table = table_.bytes.data();
    query.term_mult = term_mult_;
    while (args.probe < args.n) {
        lend(query);
        kernels_->scan_lists(args, query);
        take_back(query);
    }
}

/// The same, with the room of candidates_.
template <class TakeBack>
void QuerySearch::scan_candidates(
        size_t begin,
        size_t end,
        bool by_masks,
        TakeBack&& take_back) {
    scan_probes(
            begin,
            end,
            by_masks,
            [&](auto& query) { candidates_.lend(query); },
            take_back);
}

} // namespace faiss_ext

/*
 * What one search call will do: parameters of the call and defaults of the
 * index, checked and resolved once, and the route, before any query runs.
 *
 * In: an index, its defaults, the caller's parameters. Out: the plan, and from
 * it and the rows of a query's lists the query's route; next: batch_search.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/filter.h>
#include <faiss_ext/search/probes.h>

namespace faiss_ext {

/// The index' own settings, for parameters of a search that are 0.
struct SearchDefaults {
    size_t nprobe;
    size_t max_codes; ///< 0: no limit
    size_t reorder_k; ///< 0: from the calibration, or from k
    size_t refine_k;  ///< the same
    const ScaNNCalibration& calibration;
    /// kept by the index while it searches; nullptr: never calibrated
    const ScaNNProfile* profile;
};

/// The way of a query from its lists to its candidates.
enum class Route {
    Scan,           ///< no filter: the codes of all rows are scanned
    FilterThenScan, ///< the codes of the rows that pass are scanned
    /// most rows pass: the filter tests only rows that the scan finds (but all
    /// rows of the first lists, which showed how many pass)
    ScanThenFilter,
    RescorePassing, ///< all rows that pass are candidates, whatever their codes
    DirectMap,      ///< few rows pass; the direct map has their places
};

struct SearchPlan {
    /// As far as it is the same for all queries; route_of() decides the rest
    /// from the lists of a query.
    Route route;
    size_t k;
    size_t nprobe;
    size_t max_codes; ///< 0: no limit
    /// results are list << 32 | offset instead of ids
    bool store_pairs;
    /// lists beyond nprobe may be visited to find enough rows that pass
    bool may_extend;
    /// Route::DirectMap: the rows that pass, list << 32 | offset
    std::vector<uint64_t> places;
    /// Rough if raw rows are rescored, which costs no recall (measured)
    ProbeParameters probes;

    // How many candidates each stage keeps for the next one.
    size_t scan_keep;
    size_t refine_keep; ///< refined rows kept for rerank, or k
    bool refine;        ///< there are refine codes to rescore from
    bool rerank;        ///< there are raw rows to rescore from

    Filter filter;
    ScaNNSearchStats* stats;

    /// > 0: further lists may be visited so that this share of the true
    /// neighbours that pass is found
    float target_recall;
    const ScaNNProfile* profile; ///< nullptr: never calibrated

    // SearchParametersScaNN's; of search() alone
    size_t max_per_group = 0;
    size_t groups = 0;

    /// The lists keep more than the code of a row.
    bool rescores() const {
        return refine || rerank;
    }
};

/// Candidates that a call asks for; 0: the index' own numbers.
struct CandidateNumbers {
    size_t reorder_k = 0;
    size_t refine_k = 0;
};
CandidateNumbers candidate_numbers(const faiss::SearchParameters* params);

/// @throws faiss::FaissException if the parameters ask for groups of results,
/// which this call does not give
void check_not_grouped(const faiss::SearchParameters* params, const char* call);

/// As in SearchPlan.
struct StageCandidates {
    size_t scan_keep;
    size_t refine_keep;
};

/** @param nprobe_given  lists per query that the caller already chose
 *         (search_preassigned), or 0
 *  @throws faiss::FaissException on values out of range */
SearchPlan make_search_plan(
        const IndexState& state,
        const SearchDefaults& defaults,
        int64_t k,
        const faiss::SearchParameters* params,
        size_t nprobe_given,
        bool store_pairs);

/** How many candidates the stages have kept once a search in pieces has given k
 * rows: those of a search for k, where the numbers of the call are for its first
 * piece and what they have beyond it grows with the square root of k.
 * @param plan  of the first piece */
StageCandidates candidates_of_pieces(
        const IndexState& state,
        const SearchDefaults& defaults,
        const CandidateNumbers& of_first,
        const SearchPlan& plan,
        size_t k);

/// The same as make_search_plan() for a range search, which rescores every row that passes.
SearchPlan make_range_plan(
        const IndexState& state,
        const SearchDefaults& defaults,
        const faiss::SearchParameters* params,
        size_t nprobe_given,
        bool store_pairs);

/// The rows of the lists that one query visits, spilled copies counted too.
struct ProbedRows {
    uint64_t all = 0;
    uint64_t tested = 0;       ///< those in lists that the filter has tested
    size_t passing = 0;        ///< of the tested ones
    size_t passing_blocks = 0; ///< packed blocks that hold one of these
    /// tested when as many had passed as results are wanted; infinite: not yet
    double until_k = std::numeric_limits<double>::infinity();
};

/// Rows that must have passed before tested_enough() is asked.
size_t passing_to_judge(const SearchPlan& plan);

/** Whether most rows pass, so that the filter should not test the other rows
 * before the scan. If not, all have to be tested before route_of(). */
bool tested_enough(const SearchPlan& plan, const ProbedRows& rows);

/** The number of results without a filter for which as many lists are needed as
 * for the plan's k with it, by the rows that were tested: those with a share
 * of s that pass need the lists of k / s; if rows pass that are far from the
 * query, the ranks at which they begin are seen from where the first k did.
 * @param copies  of each row in the lists, on average */
double results_before_filter(
        const SearchPlan& plan,
        const ProbedRows& rows,
        size_t copies);

/// The route of one query.
Route route_of(const SearchPlan& plan, const ProbedRows& rows);

} // namespace faiss_ext

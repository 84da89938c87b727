/*
 * The way of one query whose results are taken in pieces: what the stages have
 * found and not yet given stays for the next piece.
 *
 *   lists, best first -> known keys -> refined rows -> final rows -> a piece
 *
 * In: the plan of the first piece, a query. Out: rows, each once, in the end all
 * that pass the filter; next: index/iterate.cpp.
 *
 * Once k rows were given, each stage has taken as many candidates from the one
 * before as a search for k keeps, always the best that there are. The scan keeps
 * more keys than that, down to a floor. Where they are used up, all lists are
 * scanned again down to a lower floor: it sinks so fast that a list is scanned a
 * few times at most.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <faiss_ext/search/query_search.h>

namespace faiss_ext {

class ResumableScan : private QuerySearch {
 public:
    /** @param plan  of the first piece, plan.k rows
     *  @param numbers  of the call. All but these two is borrowed
     *  @param query, exact  as in QuerySearch::begin()
     *  @param first_lists  all rows come from the lists of the first piece, those
     *         that a search visits */
    ResumableScan(
            const IndexState& state,
            SearchPlan plan,
            const SearchDefaults& defaults,
            const CandidateNumbers& numbers,
            const float* query,
            const float* exact,
            bool first_lists = false);
    ResumableScan(const ResumableScan&) = delete;
    ResumableScan& operator=(const ResumableScan&) = delete;

    /** The next plan.k rows. If it throws, nothing is lost.
     * @param distances, labels  out, size plan.k; -1 beyond the rows given
     * @return how many */
    size_t next(float* distances, int64_t* labels) {
        return next(settings_.k, distances, labels);
    }
    /// The same, of so many rows. @param more  >= 1
    size_t next(size_t more, float* distances, int64_t* labels);

    size_t piece() const {
        return settings_.k;
    }

 private:
    using Rows = std::vector<Candidate>;

    // lists
    void visit_first_lists();
    void visit_lists(size_t rows);
    void rank_further_lists();
    void visit(size_t n, const int64_t* lists, const float* scores);
    void take_new_lists();
    bool lists_left() const {
        if (first_lists_ && (given_ > 0 || settings_.filter.passes_all())) {
            return false;
        }
        return ranked_begin_ < ranked_.size() || visited_ < state_->ivf.nlist;
    }
    size_t rows_to_choose_from() const;

    // keys
    void prepare_scan(size_t begin, size_t word);
    void scan_new_lists();
    bool fill_keys(size_t wanted);
    bool use_keys(size_t total);
    void fill_front(size_t wanted);
    void add_to_front(size_t begin);
    uint64_t copy_largest(
            const uint64_t* keys,
            size_t count,
            size_t n,
            std::vector<uint64_t>& to);
    uint64_t select_largest(std::vector<uint64_t>& keys, size_t n);

    // rows
    template <class Locate>
    void take(size_t most, Locate&& locate);
    void rescore_located();
    void rerank_best(size_t total);
    Candidate copy_best(const Rows& rows, size_t n);
    static Candidate last_of(const Rows& rows, size_t n, float score);
    static void drop_best(Rows& rows, const Candidate& last);
    size_t give(size_t most, float* distances, int64_t* labels);

    SearchPlan settings_;
    const SearchDefaults& defaults_;
    const CandidateNumbers numbers_;
    const bool first_lists_;
    ScaNNSearchStats counted_;

    size_t visited_ = 0;           ///< lists that were ranked
    std::vector<bool> seen_lists_; ///< those of ranked_ and before
    std::vector<int64_t> ranked_;  ///< from ranked_begin_ on: to visit next
    std::vector<float> ranked_scores_;
    size_t ranked_begin_ = 0;
    size_t taken_probes_ = 0; ///< of probes_, those that take_new_lists() took
    size_t taken_words_ = 0;  ///< their words of masks_
    size_t taken_rows_ = 0;   ///< their rows that pass
    size_t taken_apart_ = 0;  ///< their rows apart

    // Keys of the lists taken that are at least floor_ and were not used: in
    // front_, or, if they are below front_floor_, the first keys_count_ elements
    // of keys_.
    std::vector<uint64_t> front_, keys_;
    size_t keys_count_ = 0;
    uint64_t front_floor_ = 0;
    uint64_t floor_ = UINT64_MAX; ///< 0: all keys are known
    std::vector<uint64_t> chunk_, scratch_, order_;
    bool table_built_ = false;

    Rows refined_;        ///< to be reranked
    Rows final_;          ///< scored as well as the index can
    size_t used_ = 0;     ///< keys so far
    size_t reranked_ = 0; ///< rows so far, of refined_
    size_t given_ = 0;    ///< rows so far
};

} // namespace faiss_ext

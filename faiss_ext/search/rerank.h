/*
 * Rescoring: candidates -> exact or nearly exact scores.
 *
 * In: candidates (place of a vector, score so far). Out: the same candidates
 * with a better score, the best of them kept; next: the caller's output arrays.
 *
 * Scores are larger-is-better: inner product, or minus half the squared
 * distance (codec.h has the formulas).
 */

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include <faiss_ext/memory/aligned_buffer.h>
#include <faiss_ext/kernels/kernels.h>
#include <faiss_ext/search/lookup_table.h>
#include <faiss_ext/lists/on_demand_rows.h>
#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/scann_options.h>
#include <faiss_ext/codes/score_term.h>

namespace faiss_ext {

/// A vector that may be among the results.
struct Candidate {
    uint32_t list;   ///< primary list
    uint32_t offset; ///< in that list
    float bias;      ///< score of the list's centroid
    float score;
};

/// Order of candidates: best first; equal scores: smaller (list, offset).
inline bool better(const Candidate& a, const Candidate& b) {
    if (a.score != b.score) {
        return a.score > b.score;
    }
    return a.list != b.list ? a.list < b.list : a.offset < b.offset;
}

/// One query's view of the rescoring stages; keeps its memory from query to
/// query.
class Rescorer {
 public:
    /** Starts a query. All arguments are borrowed until the next call.
     * @param query   size d, unit length if the index normalises
     * @param exact   size d, the same for raw rows (PreparedQueries::exact)
     * @param from_origin  size d, the query from the origin of the codes
     *        (ScaNNModel::from_origin) */
    void begin(
            const ScaNNLists& lists,
            const ScoreTerm& score_term,
            const float* query,
            const float* exact,
            const float* from_origin);

    /// Rescores from the codes, by the float table.
    void rescore_codes(const LookupTable& table, std::vector<Candidate>& rows);
    /// Rescores from refine codes.
    void refine(const kernels::Kernels& kernels, std::vector<Candidate>& rows);
    /** Begins to read the raw rows of candidates that rerank() gets next, in the
     * same order, if they are in a file. May be left out: rerank() does it then.
     * @return rows that are on their way */
    size_t start_reading(const std::vector<Candidate>& rows);
    /// Rescores from raw rows.
    /// @throws faiss::FaissException if they are in a file that cannot be read
    void rerank(const kernels::Kernels& kernels, std::vector<Candidate>& rows);
    /// Rescores from the best that the lists keep: raw rows, else refine codes,
    /// else codes. @param table  read in the last case only
    void rescore_best(
            const kernels::Kernels& kernels,
            const LookupTable& table,
            std::vector<Candidate>& rows);

    /// Adds rows and reads of a file since begin(), or the last call.
    void count_reads(ScaNNSearchStats& stats) {
        stats.cached_rows += std::exchange(cached_rows_, 0);
        stats.file_reads += std::exchange(file_reads_, 0);
        stats.disk_reads += std::exchange(disk_reads_, 0);
    }

 private:
    void quantize_query();
    void find_raw_rows(const Candidate* rows, size_t n);
    void
    rerank_some(const kernels::Kernels& kernels, Candidate* rows, size_t n);
    float precise_score(const void* row);

    const ScaNNLists* lists_ = nullptr;
    const ScoreTerm* score_term_ = nullptr;
    const float* exact_ = nullptr;
    const float* from_origin_ = nullptr;
    float term_factor_ = 1;
    // query ~ query_step_ * (128 * high + low)
    float query_step_ = 0;
    bool quantized_ = false;
    std::vector<int8_t> high_, low_;
    std::vector<const void*> pointers_;
    std::vector<float> products_;
    std::vector<int32_t> byte_products_;
    std::vector<uint8_t> codes_;
    std::vector<float> row_; ///< of precise_score()
    OnDemandRows::Request request_;
    size_t started_ = 0; ///< rows of request_
    size_t cached_rows_ = 0;
    size_t file_reads_ = 0;
    size_t disk_reads_ = 0;
};

/// Keeps the `keep` best rows.
void keep_best(std::vector<Candidate>& rows, size_t keep);

} // namespace faiss_ext

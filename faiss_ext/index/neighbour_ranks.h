/*
 * Where the true neighbours of queries stand: the number of a neighbour's list
 * among the query's lists, and its rank in the order of codes and of refine codes
 * among the rows of the first lists.
 *
 * In: an index, queries. Out: ranks of a batch; next: measure_profile.
 */

#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/calibration_queries.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/search/search_plan.h>

namespace faiss_ext {

/// Numbers of lists and of candidates that are told apart.
struct RankGrid {
    RankGrid(size_t nlist, size_t rows);

    std::vector<uint32_t> probes;     ///< rising to nlist
    std::vector<uint32_t> candidates; ///< rising to deepest
    size_t neighbours;                ///< of each query
    size_t deepest;                   ///< ranks that are looked at
    std::vector<uint8_t> first;  ///< list number -> the first probes with it
    std::vector<uint8_t> enough; ///< rank -> the first candidates with it
};

/// The rank of a row that is not found at all.
constexpr uint8_t kLost = 255;

/// Of a batch of n queries.
struct NeighbourRanks {
    size_t n = 0;
    std::vector<uint32_t> found; ///< neighbours there are, size n
    /// the first of grid.probes that visits neighbour r, size n * neighbours
    std::vector<uint8_t> first;
    /// the same for rows by rank in the order of codes, size n * deepest
    std::vector<uint8_t> first_by_code;
    /// The first of grid.candidates that has neighbour r, for each of grid.probes,
    /// or kLost; size probes * n * neighbours. `refined`: empty without that stage
    std::vector<uint8_t> scanned;
    std::vector<uint8_t> refined;
    std::vector<float> kind; ///< kind_of_query(), size n
    std::vector<uint64_t>
            visits; ///< rows in the first lists, of each of probes
};

class NeighbourRanking {
 public:
    NeighbourRanking(const IndexIVFScaNN& index, const RankGrid& grid);

    /// Queries [begin, end); memory of `ranks` is used again.
    void rank(
            const CalibrationQueries& queries,
            size_t begin,
            size_t end,
            NeighbourRanks& ranks) const;

    bool has_scan_stage() const {
        return truth_.rescores();
    }
    bool has_refine_stage() const {
        return truth_.refine && truth_.rerank;
    }

 private:
    struct Found;
    std::vector<uint64_t>
    search(const SearchPlan& plan, const PreparedQueries& x, size_t n) const;
    uint32_t list_number(const std::vector<uint32_t>& numbers, uint64_t place)
            const;
    void rank_in(
            const uint64_t* order,
            const uint64_t* truth,
            const std::vector<uint32_t>& numbers,
            size_t q,
            const NeighbourRanks& ranks,
            std::vector<uint8_t>& out) const;
    void rank_one(
            size_t q,
            const Found& found,
            uint64_t own,
            NeighbourRanks& ranks) const;

    const IndexState& state_;
    const RankGrid& grid_;
    SearchPlan truth_;
    SearchPlan by_code_;
    SearchPlan by_refine_code_;
    std::unique_ptr<CopyPlaces> copies_; ///< nullptr without copies
};

} // namespace faiss_ext

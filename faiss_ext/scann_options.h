/*
 * The options of an index, the parameters of a search, and what an index
 * reports: plain data of the interface, without the class.
 */

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <faiss_ext/faiss_compat.h>

namespace faiss_ext {

/// How residuals are rotated before they are coded.
enum class RotationKind : uint8_t {
    None = 0,
    /// principal axes of the residuals, largest variance first
    PCA = 1,
    /// principal axes dealt to the blocks so that the products of the
    /// eigenvalues of all blocks are alike (parametric OPQ, Ge et al. 2013)
    Balanced = 2,
    /// random orthonormal matrix
    Random = 3,
};

/// How a threshold T becomes eta (arXiv 1908.10396).
enum class EtaFormula {
    Exact, ///< the integrals of Theorem 3.2 for w(t) = [t >= T]
    Limit, ///< Theorem 3.4: (d - 1) (T/||x||)^2 / (1 - (T/||x||)^2)
};

/// Codes kept beside the 4-bit codes to rescore candidates.
enum class RefineType : uint8_t { None = 0, Int8 = 1, FP16 = 2, BF16 = 3 };

/// Types of the values of rows: as they come in, and as raw rows are kept.
enum class RowType : uint8_t {
    Float32 = 0,
    FP16 = 1,
    BF16 = 2,
    Int8 = 3,
    UInt8 = 4,
};

/** What is decided before training. */
struct ScaNNOptions {
    /// dimensions per 4-bit code, 1..8; the last block may be shorter
    size_t sub_dim = 2;
    /// number of codes, with widths that differ by at most 1; 0: given by
    /// sub_dim. Codes are stored in fours: a multiple of 4 wastes nothing
    size_t M = 0;
    /// leading rotated dimensions that have codes, M..d; of the others only the
    /// lengths count. 0: all, but half of them for the same number of codes
    /// where training finds that this is as good (rotation.h)
    size_t coded_dims = 0;
    /// weight of the parallel error, >= 1; 0: 1.5. eta and threshold exclude
    /// each other
    float eta = 0;
    /// T of the paper, in units of the inner product; NaN: not set
    float threshold = std::numeric_limits<float>::quiet_NaN();
    EtaFormula eta_formula = EtaFormula::Exact;
    RotationKind rotation = RotationKind::Balanced;
    /// rows and queries are scaled to unit length (cosine); needs
    /// METRIC_INNER_PRODUCT
    bool normalize = false;
    /// with normalize: rows and queries of zeros have similarity 0 with
    /// everything; otherwise they are refused
    bool allow_zero = false;
    /// centroids minimise the score-aware loss too; inner product only
    bool score_aware_centroids = false;
    /// > 0: each vector gets a copy in a second list (SOAR), 0: none
    float soar_lambda = 0;
    RefineType refine_type = RefineType::None;
    /// raw rows are kept: exact rescoring, exact reconstruction
    bool with_raw_data = false;
    /// their type; rows with a value that it cannot hold are refused, floats
    /// are rounded to half precision
    RowType raw_type = RowType::Float32;
    /// each row has a tag, any 64-bit integer, for searches with max_per_group
    bool with_tags = false;
    /// seed of all random choices in training
    uint64_t seed = 1234;
    /// k-means uses at most this many training rows per list
    size_t max_points_per_centroid = 256;
    size_t kmeans_rounds = 10;
    /// > 0: calls that add or replace n rows also do maintenance (maintain()),
    /// of at most this times n rows encoded anew; needs raw rows or refine codes
    float auto_maintain = 0;
};

/** What a search did, summed over its queries; times in seconds, summed over
 * threads. The caller owns it; concurrent searches may share one only if they
 * do not overlap. */
struct ScaNNSearchStats {
    size_t nq = 0;
    size_t lists = 0;      ///< lists visited
    size_t codes = 0;      ///< codes scored; none if few rows pass a filter
    size_t candidates = 0; ///< survivors of the scan, or all rows that pass
    size_t refined = 0;    ///< rows rescored from refine codes
    size_t reranked = 0;   ///< rows rescored from raw vectors
    // of a file that was opened within a bound of memory (ReadBounds):
    size_t cached_rows = 0; ///< of these, kept in memory from earlier searches
    size_t file_reads = 0;  ///< for the others; rows nearby by one
    size_t disk_reads = 0;  ///< of these, for what the system had not in memory
    double partition_time = 0;
    double table_time = 0;
    double scan_time = 0;
    double refine_time = 0;
    double rerank_time = 0;
    /// expected shares of the true neighbours among the results, by the index'
    /// profile
    double recall_sum = 0;
    /// queries not in it: unlike those of calibrate(), or it was never called
    size_t recall_unknown = 0;

    ScaNNSearchStats& operator+=(const ScaNNSearchStats& other) {
        nq += other.nq;
        lists += other.lists;
        codes += other.codes;
        candidates += other.candidates;
        refined += other.refined;
        reranked += other.reranked;
        cached_rows += other.cached_rows;
        file_reads += other.file_reads;
        disk_reads += other.disk_reads;
        partition_time += other.partition_time;
        table_time += other.table_time;
        scan_time += other.scan_time;
        refine_time += other.refine_time;
        rerank_time += other.rerank_time;
        recall_sum += other.recall_sum;
        recall_unknown += other.recall_unknown;
        return *this;
    }
    /// Expected recall of a query; NaN if it is not known of a tenth of them.
    double expected_recall() const {
        const size_t known = nq - std::min(nq, recall_unknown);
        return known * 10 > nq * 9 ? recall_sum / double(known)
                                   : std::numeric_limits<double>::quiet_NaN();
    }
};

/// What calibrate() chose, and for what.
struct ScaNNCalibration {
    float target_recall = 0; ///< 0: never calibrated
    size_t k = 0;
    size_t nprobe = 0;
    size_t refine_k = 0;  ///< 0: no refine codes
    size_t reorder_k = 0; ///< 0: no raw rows
    float recall = 0;     ///< reached on the queries
};

/// What maintain() did.
struct ScaNNMaintenance {
    size_t rows = 0;  ///< encoded anew
    size_t lists = 0; ///< lists looked through
    /// false: a bound was reached; the next call goes on
    bool finished = true;
    double seconds = 0;
};

/// How well an index suits the rows that it holds now.
struct ScaNNHealth {
    size_t rows = 0;
    size_t lists = 0;
    size_t empty_lists = 0;
    size_t largest_list = 0;
    /// nlist * sum n_l^2 / n^2 of the n_l rows of the lists; 1: all alike. As many
    /// times as many rows are scanned as with lists of equal sizes
    double imbalance = 1;
    double imbalance_at_fit = 1;
    /// rows added, replaced or removed since the lists were fitted: by training,
    /// or by the last maintain() that finished
    size_t changed_rows = 0;
    /// mean squared distance of rows to the centroids of their lists
    double list_error = 0;
    double list_error_at_fit = 0;
    /// share of that which the codes lose. NaN where rows are kept as codes alone
    double code_error = std::numeric_limits<double>::quiet_NaN();
    double code_error_at_training = 0;
    /// share of rows that the codes cannot hold: every query that visits their
    /// lists rescores them
    double rows_apart = 0;
    size_t unused_bytes = 0; ///< allocated, but held by no row
    /// lists that a maintenance which has begun has still to look through
    size_t pending_lists = 0;
    /// of a search for k rows with the settings of the index, against a search of
    /// all lists and rows. NaN: not measured
    double recall = std::numeric_limits<double>::quiet_NaN();
    size_t recall_k = 0;
    std::vector<std::string> advice; ///< sentences; empty: nothing to do
};

/** What calibrate() measured on its queries, for searches with target_recall:
 * the settings that reach a recall for k results, and the recall of settings.
 * Rows of tables belong to a k, and rise from left to right; so do columns. */
struct ScaNNProfile {
    struct Setting {
        uint32_t nprobe = 0;
        uint32_t refine_k = 0;  ///< 0: no refine codes
        uint32_t reorder_k = 0; ///< 0: no raw rows
    };
    size_t rows = 0; ///< of the index then; 0: never calibrated
    /// numbers of results, rising; those above kMaxResults serve filters
    std::vector<uint32_t> ks;
    std::vector<float> targets; ///< rising
    /// settings of ks x targets
    std::vector<Setting> settings;
    std::vector<uint32_t> probes; ///< numbers of lists, rising to nlist
    /// ks x probes: the share of neighbours that the lists hold
    std::vector<float> probe_recall;
    std::vector<uint32_t> candidates; ///< numbers of candidates, rising
    /// ks x candidates: the share of neighbours in the lists that are among so
    /// many candidates, by codes and by refine codes
    std::vector<float> scan_recall;
    std::vector<float> refine_recall;
    /// Score of a query's best list, divided by its length unless L2: most queries
    /// are between these.
    float lowest_score = 0;
    float highest_score = 0;

    /// k of a search with target_recall is at most this.
    static constexpr uint32_t kMaxResults = 1000;
    static constexpr float kLowestTarget = 0.5f;
    static constexpr float kHighestTarget = 0.999f;
};

/** Search parameters; a plain faiss::SearchParametersIVF is accepted too.
 * nprobe, max_codes, sel, quantizer_params mean what they mean in Faiss. */
struct SearchParametersScaNN : faiss::SearchParametersIVF {
    /// nprobe 0: the index' nprobe
    SearchParametersScaNN() {
        nprobe = 0;
    }
    /// candidates rescored from raw rows, >= k; 0: the index' reorder_k
    size_t reorder_k = 0;
    /// candidates rescored from refine codes, >= k; 0: the index' refine_k
    size_t refine_k = 0;
    /** .5 to .999, for k up to 1000: nprobe, refine_k and reorder_k, which must
     * be 0, are those that found this share of the true neighbours in
     * calibrate(); with a selector further lists are visited where few rows of
     * the first ones pass. 0: not asked for */
    float target_recall = 0;
    /** > 0: at most so many rows of a tag, the best ones; needs
     * options.with_tags. Found among the rows of the nprobe best lists: where k
     * rows of enough tags are not among the best, further ones are rescored, in
     * the end all. Of search() only, without target_recall or max_codes */
    size_t max_per_group = 0;
    /// with max_per_group: rows of at most so many tags, the best ones; 0: any
    size_t groups = 0;
    /// filled if not nullptr (borrowed)
    ScaNNSearchStats* stats = nullptr;
};

/** Progress of train ("k-means", "codebook"), add ("add"), calibrate
 * ("calibrate") and maintain ("k-means", "maintain"): stage, steps done, steps in all (0: not known). Called on
 * the calling thread; an exception thrown there ends the call and leaves the
 * index as it was. */
using ScaNNProgress =
        std::function<void(const char* stage, size_t done, size_t total)>;

/// What may be in memory of a file that is larger.
struct ReadBounds {
    /// bytes of the file; not counted: what a process needs besides, and the
    /// system's memory of files, which gives way to others
    uint64_t memory = 0;
};

/// Bytes of a column of the lists, by where they are.
struct ColumnBytes {
    /// "codes", "ids", "refine", "raw", "tags", "primary"; of spilled copies
    /// "spilled_codes" and so on
    std::string column;
    uint64_t memory = 0;
    uint64_t mapped = 0;    ///< of a file, read by page faults
    uint64_t on_demand = 0; ///< of a file, read by searches
    uint64_t cache = 0;     ///< memory for those that were read, at most
};

} // namespace faiss_ext

/*
 * The index: ScaNN (score-aware 4-bit codes, scanned in registers, refined by
 * 8-bit codes and raw rows) as a faiss::IndexIVF.
 *
 * Build: rows -> partition -> rotation -> score_aware_pq -> packed_block ->
 * scann_lists. Search: query -> partition -> lookup_table -> scan ->
 * candidates -> rerank. This class calls those rooms in order and holds no
 * arithmetic of its own.
 */

#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include <faiss_ext/export.h>
#include <faiss_ext/faiss_compat.h>
#include <faiss_ext/partition/partition.h>
#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/codes/score_aware_loss.h>
#include <faiss_ext/model/trained.h>

namespace faiss {
struct IndexFlat;
}

namespace faiss_ext {

/** What is decided before training. */
struct ScaNNOptions {
    /// dimensions per 4-bit code, 1..8; the last block may be shorter
    size_t sub_dim = 2;
    /// number of codes, with widths that differ by at most 1; 0: given by
    /// sub_dim. Codes are stored in fours: a multiple of 4 wastes nothing
    size_t M = 0;
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
    /// seed of all random choices in training
    uint64_t seed = 1234;
    /// k-means uses at most so many training rows per list
    size_t max_points_per_centroid = 256;
    size_t kmeans_rounds = 10;
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
    double partition_time = 0;
    double table_time = 0;
    double scan_time = 0;
    double refine_time = 0;
    double rerank_time = 0;

    ScaNNSearchStats& operator+=(const ScaNNSearchStats& other) {
        nq += other.nq;
        lists += other.lists;
        codes += other.codes;
        candidates += other.candidates;
        refined += other.refined;
        reranked += other.reranked;
        partition_time += other.partition_time;
        table_time += other.table_time;
        scan_time += other.scan_time;
        refine_time += other.refine_time;
        rerank_time += other.rerank_time;
        return *this;
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
    /// filled if not nullptr (borrowed)
    ScaNNSearchStats* stats = nullptr;
};

/** Progress of train ("k-means", "codebook"), add ("add") and calibrate
 * ("calibrate"): stage, steps done, steps in all (0: nobody knows). Called on
 * the calling thread; an exception thrown there ends the call and leaves the
 * index as it was. */
using ScaNNProgress =
        std::function<void(const char* stage, size_t done, size_t total)>;

struct EntryCodec;
struct PreparedQueries;
struct SearchPlan;
class CopyPlaces;

class FAISS_EXT_API IndexIVFScaNN : public faiss::IndexIVF {
 public:
    using idx_t = int64_t;

    ScaNNOptions options;
    /// default for searches that do not say; 0: chosen from k
    size_t reorder_k = 0;
    size_t refine_k = 0;
    /// what calibrate() chose; used where reorder_k, refine_k are 0
    ScaNNCalibration calibration;
    /// not saved, not cloned
    ScaNNProgress progress;

    /** @param quantizer  maps vectors to lists; borrowed unless own_fields
     *  @param d          1..65536
     *  @param nlist      lists; 0: chosen when trained, and so is nprobe, which
     *                    is 0 until then, unless it is set before
     *  @param metric     METRIC_L2 or METRIC_INNER_PRODUCT
     *  @throws faiss::FaissException on options out of range
     */
    IndexIVFScaNN(
            faiss::Index* quantizer,
            size_t d,
            size_t nlist,
            faiss::MetricType metric = faiss::METRIC_L2,
            const ScaNNOptions& options = ScaNNOptions());

    /// Same, with a flat quantizer of its own.
    IndexIVFScaNN(
            size_t d,
            size_t nlist,
            faiss::MetricType metric = faiss::METRIC_L2,
            const ScaNNOptions& options = ScaNNOptions());

    IndexIVFScaNN(const IndexIVFScaNN&) = delete;
    IndexIVFScaNN& operator=(const IndexIVFScaNN&) = delete;
    ~IndexIVFScaNN() override;

    // ---- build ----

    /** Trains lists, rotation and codebook; only once: an index that is
     * trained ignores the call, so that what it holds stays valid. (Faiss' own
     * IVF indexes keep their lists then, but learn new codes, which makes
     * nonsense of those they hold.) For other data make another index.
     * @param n  at least nlist rows, all finite
     * @throws faiss::FaissException otherwise; the index stays untrained
     */
    void train(idx_t n, const float* x) override;

    /// Adds rows under their running number ntotal, ntotal + 1, ...
    void add(idx_t n, const float* x) override;
    void add_with_ids(idx_t n, const float* x, const idx_t* ids) override;
    /** Adds rows to given lists. Rows of list -1 are counted but not stored,
     * as in Faiss.
     * @param ids     size n, or nullptr for running numbers
     * @param assign  size n, list of each row */
    void add_core(
            idx_t n,
            const float* x,
            const idx_t* ids,
            const idx_t* assign
#if FAISS_EXT_FAISS_VERSION >= 10800
            ,
            void* inverted_list_context = nullptr
#endif
            ) override;
    /// Adds what sa_encode() made; spilled copies are made from the decoded
    /// vector.
    void add_sa_codes(idx_t n, const uint8_t* codes, const idx_t* ids)
            FAISS_EXT_OVERRIDE_11000;

    /** Bytes that the index takes in memory with n vectors in it, before it
     * is trained; within 5 % of memory_usage() then. */
    size_t estimate_memory(size_t n) const;
    /// Bytes held now, mapped files included.
    size_t memory_usage() const;

    /** What training, or the rows added since, made the index do otherwise than
     * its options say, and why: one sentence each; empty as a rule. */
    std::vector<std::string> notes() const;

    // ---- search ----

    void search(
            idx_t n,
            const float* x,
            idx_t k,
            float* distances,
            idx_t* labels,
            const faiss::SearchParameters* params = nullptr) const override;

    /// As search(), and the rows found as reconstruct_from_offset() gives them.
    /// @param recons  size n * k * d; NaN where nothing was found
    void search_and_reconstruct(
            idx_t n,
            const float* x,
            idx_t k,
            float* distances,
            idx_t* labels,
            float* recons,
            const faiss::SearchParameters* params = nullptr) const override;

    void search_preassigned(
            idx_t n,
            const float* x,
            idx_t k,
            const idx_t* assign,
            const float* centroid_dis,
            float* distances,
            idx_t* labels,
            bool store_pairs,
            const faiss::IVFSearchParameters* params = nullptr,
            faiss::IndexIVFStats* stats = nullptr) const override;

    /** All vectors of the probed lists whose rescored score passes the
     * radius: raw rows if kept, else refine codes, else codes. */
    void range_search(
            idx_t n,
            const float* x,
            float radius,
            faiss::RangeSearchResult* result,
            const faiss::SearchParameters* params = nullptr) const override;

    void range_search_preassigned(
            idx_t n,
            const float* x,
            float radius,
            const idx_t* assign,
            const float* centroid_dis,
            faiss::RangeSearchResult* result,
            bool store_pairs = false,
            const faiss::IVFSearchParameters* params = nullptr,
            faiss::IndexIVFStats* stats = nullptr) const
            FAISS_EXT_OVERRIDE_10704;

    faiss::InvertedListScanner* get_InvertedListScanner(
            bool store_pairs = false,
            const faiss::IDSelector* sel = nullptr
#if FAISS_EXT_FAISS_VERSION >= 11100
            ,
            const faiss::IVFSearchParameters* params = nullptr
#endif
    ) const override;

    /// Distances to single rows by id; needs a direct map.
    faiss::DistanceComputer* get_distance_computer() const override;

    /** Chooses nprobe, refine_k and reorder_k so that a search for k finds
     * the share target_recall of the true neighbours, measured on the queries
     * and chosen with one standard error to spare. They hold from then on
     * where a search gives none itself (for another k, the candidates grow
     * with its root); add() does not change them.
     *
     * Truth is what an exhaustive search of this index finds: with raw rows
     * the exact neighbours, else the best by the codes it has. If the target
     * is out of reach, the widest setting is taken: see `recall`.
     *
     * @param queries  size n * d, like those to come; nullptr: 1000 of the raw
     *                 rows, each without itself among its neighbours
     * @param target_recall  above 0, below 1
     * @param k              1..ntotal - 1
     * @throws faiss::FaissException on values out of range; nothing changed */
    ScaNNCalibration calibrate(
            idx_t n,
            const float* queries,
            float target_recall = 0.95f,
            idx_t k = 10);

    // ---- codec: an entry is what the lists hold of a vector ----

    void encode_vectors(
            idx_t n,
            const float* x,
            const idx_t* list_nos,
            uint8_t* codes,
            bool include_listno = false) const override;
    void decode_vectors(
            idx_t n,
            const uint8_t* codes,
            const idx_t* list_nos,
            float* x) const FAISS_EXT_OVERRIDE_11200;
    void sa_encode(idx_t n, const float* x, uint8_t* codes) const override;
    void sa_decode(idx_t n, const uint8_t* codes, float* x) const override;
    /// The raw row if kept, else the best approximation held.
    void reconstruct_from_offset(int64_t list_no, int64_t offset, float* x)
            const override;

    // ---- maintenance ----

    /** Any selector, any direct map; an Array map becomes a Hashtable, since
     * the ids are no longer consecutive. With a map and a selector that lists
     * its ids, the time depends on the number of ids alone. */
    size_t remove_ids(const faiss::IDSelector& sel) override;
    /// Replaces rows; throws if an id is unknown, before anything changes. With
    /// a direct map, the time depends on the number of rows given alone.
    void update_vectors(int n, const idx_t* ids, const float* x) override;
    /// Removes all rows and gives their memory back.
    void reset() override;
    /// As IndexIVF's, but if they throw the old map stays. (They are not
    /// virtual: through an IndexIVF Faiss' own leave a half-filled map, which
    /// the next change drops.)
    void set_direct_map_type(faiss::DirectMap::Type type);
    void make_direct_map(bool new_maintain_direct_map = true);
    /// False if a map was left half filled by an exception.
    bool direct_map_fits() const;
    void check_compatible_for_merge(const faiss::Index& other) const override;
    void merge_from(faiss::Index& other, idx_t add_id) override;
    void copy_subset_to(
            faiss::IndexIVF& other,
            SubsetType subset_type,
            idx_t a1,
            idx_t a2) const override;
#if FAISS_EXT_FAISS_VERSION >= 10704
    faiss::CodePacker* get_CodePacker() const override;
#endif

    // ---- what training made (read by index_io, export and tests) ----

    const Partition& partition() const {
        return partition_;
    }
    const ScaNNTrained& trained() const {
        return trained_;
    }
    const Rotation& rotation() const {
        return trained_.rotation;
    }
    const ScoreAwarePQ& pq() const {
        return trained_.pq;
    }
    const ScoreTerm& score_term() const {
        return trained_.score_term;
    }
    const ScaNNLists& lists() const {
        return *static_cast<const ScaNNLists*>(invlists);
    }
    ScaNNLists& mutable_lists() {
        return *static_cast<ScaNNLists*>(invlists);
    }
    /** Score of a list's centroid for a query: <q, c>, or for L2
     * -||q - c||^2 / 2. */
    float centroid_score(const float* query, int64_t list_no) const;
    /** The lists that a search visits, best first, with centroid_score().
     * @param x       size n * d, normalised if the index does
     * @param lists   out, size n * count; -1 beyond what the quantizer finds
     * @param scores  out, size n * count
     * @param kind    Rough (partition.h) only matters for a flat quantizer */
    void find_probes(
            idx_t n,
            const float* x,
            size_t count,
            idx_t* lists,
            float* scores,
            const faiss::SearchParameters* quantizer_params = nullptr,
            ProbeScores kind = ProbeScores::Exact) const;
    /// As find_probes(), but empty lists do not count: these are the best that
    /// hold something.
    void find_filled_probes(
            idx_t n,
            const float* x,
            size_t count,
            idx_t* lists,
            float* scores,
            const faiss::SearchParameters* quantizer_params = nullptr,
            ProbeScores kind = ProbeScores::Exact) const;
    /// rows or queries as this index wants them (query_rows.h)
    const float* checked(
            size_t n,
            const float* x,
            const char* what,
            std::vector<float>& storage) const;
    /// Lists of rows as add() assigns them. @param lists  out, size n
    void assign_lists(idx_t n, const float* x, idx_t* lists) const;
    /// nullptr without spilled copies
    const ScaNNLists* spilled_lists() const {
        return spilled_.get();
    }
    /// the eta that training uses: options.eta, from options.threshold, or
    /// the default
    float effective_eta(float typical_norm) const;

    /** Takes trained parts; the quantizer must hold nlist centroids. Lists are
     * replaced by empty ones. */
    void set_trained(ScaNNTrained trained);
    /// The same with filled lists, as set_lists() takes them (index_io, clone).
    void set_trained(
            ScaNNTrained trained,
            std::unique_ptr<ScaNNLists> lists,
            std::unique_ptr<ScaNNLists> spilled);
    /// Takes filled lists; `spilled` is nullptr iff options.soar_lambda == 0.
    void set_lists(
            std::unique_ptr<ScaNNLists> lists,
            std::unique_ptr<ScaNNLists> spilled);

 private:
    IndexIVFScaNN(
            std::unique_ptr<faiss::Index> quantizer,
            size_t d,
            size_t nlist,
            faiss::MetricType metric,
            const ScaNNOptions& options);
    PreparedQueries prepare_queries(idx_t n, const float* x) const;
    /// What search_preassigned was given as find_probes() gives it.
    std::vector<float> scores_from_distances(
            idx_t n,
            const float* x,
            const PreparedQueries& queries,
            size_t per_query,
            const float* centroid_dis) const;
    void range_search_lists(
            idx_t n,
            const PreparedQueries& queries,
            float radius,
            const idx_t* assign,
            const float* scores,
            const SearchPlan& plan,
            faiss::RangeSearchResult* result) const;
    EntryLayout entry_layout() const;
    EntryCodec codec() const;
    /// rows can be rescored from more than codes
    bool keeps_rows() const {
        return options.with_raw_data || options.refine_type != RefineType::None;
    }
    void check_trained() const;
    /// size n * d; zeros for lists of -1
    std::vector<float> centroids_of(idx_t n, const idx_t* lists) const;
    /// nlist, or what it becomes if that is to be chosen from n rows
    size_t lists_for(size_t n) const;
    void train_centroids(idx_t n, const float* x, float eta);
    ScaNNTrained train_codes(
            idx_t n,
            const float* x,
            float eta,
            std::vector<float> list_spread) const;
    /// of each list, size nlist
    struct ListFigures {
        std::vector<float> spread; ///< ScaNNTrained::list_spread
        std::vector<size_t> rows;
    };
    ListFigures list_figures(idx_t n, const float* x) const;
    size_t probes_for_rows(
            idx_t n,
            const float* x,
            const std::vector<size_t>& list_rows) const;
    bool may_list_by_direction() const;
    bool directions_serve_better(idx_t n, const float* x) const;
    float trial_recall(idx_t n, const float* x) const;
    struct EmptyLists {
        std::unique_ptr<ScaNNLists> lists;
        std::unique_ptr<ScaNNLists> spilled; ///< nullptr without copies
    };
    EmptyLists empty_lists(size_t count) const;
    void check_lists(const ScaNNLists& lists, const ScaNNLists* spilled) const;
    void take_lists(
            std::unique_ptr<ScaNNLists> lists,
            std::unique_ptr<ScaNNLists> spilled);
    Partition make_partition(const ScaNNTrained& trained) const;
    const faiss::IndexFlat* flat_quantizer() const;
    /// @param x     size n * d, as given; @param rows  the same, normalised if
    ///              the index does
    /// @param second  lists of the spilled copies, -1: none; nullptr: find them
    /// @param codes   what sa_encode() made of the rows, or nullptr
    /// @return        as store()
    std::vector<uint64_t> add_assigned(
            idx_t n,
            const float* x,
            const float* rows,
            const idx_t* ids,
            const idx_t* assign,
            const idx_t* second,
            const uint8_t* codes = nullptr);
    void search_lists(
            idx_t n,
            const float* x,
            idx_t k,
            float* distances,
            idx_t* labels,
            const faiss::SearchParameters* params,
            bool store_pairs) const;
    void draw_rows(size_t count, std::vector<float>& x, std::vector<idx_t>& ids)
            const;
    std::vector<uint64_t> add_rows(idx_t n, const float* x, const idx_t* ids);
    std::vector<uint64_t> store(
            idx_t n,
            const idx_t* ids,
            const idx_t* assign,
            const idx_t* second,
            const std::function<
                    void(std::vector<uint64_t>& places,
                         std::vector<uint64_t>& copies,
                         const idx_t* ids)>& append);
    void copy_spilled_to(
            IndexIVFScaNN& other,
            const std::vector<size_t>& before) const;
    void drop_unfit_map();
    std::vector<uint64_t> places_of(size_t n, const idx_t* ids) const;
    struct Removal;
    Removal prepare_removal(std::vector<uint64_t> places);
    void remove_places(Removal& removal);

#if FAISS_EXT_FAISS_VERSION < 10800
    bool by_residual = true;
#endif
    Partition partition_;
    bool quantizer_is_flat_ = false; ///< partition_ stands in for it
    ScaNNTrained trained_;
    std::unique_ptr<ScaNNLists> spilled_;
    /// made by the first removal or update; nullptr where not known
    std::unique_ptr<CopyPlaces> copy_places_;
};

} // namespace faiss_ext

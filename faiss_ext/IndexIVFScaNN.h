/*
 * The index: ScaNN (score-aware 4-bit codes, scanned in registers, refined by
 * 8-bit codes and raw rows) as a faiss::IndexIVF.
 *
 * Arrays are row-major and the caller's: x has size n * d. A call that fails
 * throws faiss::FaissException (or std::bad_alloc) and leaves the index as it
 * was. Distances are squared L2 distances or inner products (with
 * options.normalize: cosines, in -1..1).
 */

#pragma once

#include <memory>
#include <string>
#include <vector>

#include <faiss_ext/export.h>
#include <faiss_ext/faiss_compat.h>
#include <faiss_ext/scann_options.h>

namespace faiss_ext {

struct IndexState;
class ScaNNIterator;

class FAISS_EXT_API IndexIVFScaNN : public faiss::IndexIVF {
 public:
    using idx_t = int64_t;

    ScaNNOptions options;
    /// defaults; 0: chosen from k; below k: k
    size_t reorder_k = 0;
    size_t refine_k = 0;
    /// what calibrate() chose; used where reorder_k, refine_k are 0
    ScaNNCalibration calibration;
    /// what calibrate() measured; for searches with target_recall. nullptr:
    /// never calibrated
    std::shared_ptr<const ScaNNProfile> profile;
    /// not saved, not cloned
    ScaNNProgress progress;

    /** @param quantizer  vectors -> lists; borrowed unless own_fields
     *  @param d      1..65536
     *  @param nlist  0: training chooses nlist, and nprobe unless it was set
     *  @param metric METRIC_L2 or METRIC_INNER_PRODUCT */
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

    /// Trains lists, rotation and codebook; a trained index ignores the call,
    /// so that what it holds stays valid. @param n  >= nlist
    void train(idx_t n, const float* x) override;
    /// Adds finite rows under their running number ntotal, ntotal + 1, ...
    void add(idx_t n, const float* x) override;
    /// @param ids  size n, any but -1; with an Array direct map: nullptr
    void add_with_ids(idx_t n, const float* x, const idx_t* ids) override;

    // The same for rows of other types, which become floats some at a time.

    /// Trains on a sample: at least 64 rows a list, and 100,000.
    void train_rows(idx_t n, const void* x, RowType type);
    /// @param ids   size n, or nullptr for running numbers
    /// @param tags  size n, with options.with_tags; nullptr: 0
    void add_rows(
            idx_t n,
            const void* x,
            RowType type,
            const idx_t* ids = nullptr,
            const int64_t* tags = nullptr);
    void update_rows(idx_t n, const idx_t* ids, const void* x, RowType type);
    void search_rows(
            idx_t n,
            const void* x,
            RowType type,
            idx_t k,
            float* distances,
            idx_t* labels,
            const faiss::SearchParameters* params = nullptr) const;

    /// Adds rows to given lists. @param ids  size n, or nullptr
    /// @param assign  size n, in 0..nlist - 1, or -1: counted but not stored
    void add_core(
            idx_t n,
            const float* x,
            const idx_t* ids,
            const idx_t* assign FAISS_EXT_PARAMETER_10800(
                    void* inverted_list_context = nullptr)) override;
    /// Adds what sa_encode() made. @param codes  size n * sa_code_size()
    void add_sa_codes(idx_t n, const uint8_t* codes, const idx_t* ids)
            FAISS_EXT_OVERRIDE_11000;

    /// What memory_usage() will be with n vectors, within 5 %; before it is
    /// trained, too. @param n  0..2^40
    size_t estimate_memory(size_t n) const;
    /// Bytes held, mapped files included.
    size_t memory_usage() const;
    /// Where rows made the index deviate from its options, and why: one sentence
    /// each; usually empty.
    std::vector<std::string> notes() const;

    // ---- search ----

    /** @param distances, labels  out, size n * k, best first; label -1: none
     *  @param params  SearchParametersScaNN or faiss::SearchParametersIVF */
    void search(
            idx_t n,
            const float* x,
            idx_t k,
            float* distances,
            idx_t* labels,
            const faiss::SearchParameters* params = nullptr) const override;
    /// As search(), and the rows found as reconstruct_from_offset() gives them.
    /// @param recons  out, size n * k * d; NaN where nothing was found
    void search_and_reconstruct(
            idx_t n,
            const float* x,
            idx_t k,
            float* distances,
            idx_t* labels,
            float* recons,
            const faiss::SearchParameters* params = nullptr) const override;
    /** As search(), in given lists. @param assign  size n * nprobe, -1: none
     * @param centroid_dis  the same, as the quantizer gives them
     * @param store_pairs   labels are list << 32 | offset */
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
    /** A search for one query that goes on (scann_iterator.h).
     * @param x       size d; copied. @param batch  rows at a time, >= 1
     * @param params  as of search(), for the first batch; without max_codes. Its
     *                pointers are borrowed until the iterator ends */
    std::unique_ptr<ScaNNIterator> iterate(
            const float* x,
            idx_t batch = 100,
            const faiss::SearchParameters* params = nullptr) const;
    /// All vectors of the probed lists with a distance below the radius, or an
    /// inner product above, by the best that is kept of them: raw rows, else
    /// refine codes, else codes. @param result  of n queries; the caller's
    void range_search(
            idx_t n,
            const float* x,
            float radius,
            faiss::RangeSearchResult* result,
            const faiss::SearchParameters* params = nullptr) const override;
    /// The same in given lists (search_preassigned()).
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
    /// Distances to single entries, those of range_search(); owned by the
    /// caller, for one thread, while the index lives and does not change.
    faiss::InvertedListScanner* get_InvertedListScanner(
            bool store_pairs = false,
            const faiss::IDSelector* sel = nullptr FAISS_EXT_PARAMETER_11100(
                    const faiss::IVFSearchParameters* params = nullptr))
            const override;
    /// The same by id; needs a direct map.
    faiss::DistanceComputer* get_distance_computer() const override;

    /** Chooses the defaults nprobe, refine_k and reorder_k so that a search for
     * k finds the share target_recall of what an exhaustive search of this
     * index finds, plus one standard error. For another k, the candidates grow
     * with its square root. If no setting reaches the target: the widest.
     * Also measures the profile, for searches with another target_recall.
     * @param queries  like those to come; nullptr: 1000 of the raw rows, each
     *                 without itself among its neighbours
     * @param target_recall  in (0, 1). @param k  1..ntotal - 1 */
    ScaNNCalibration calibrate(
            idx_t n,
            const float* queries,
            float target_recall = 0.95f,
            idx_t k = 10);

    // ---- codec: an entry is what the lists hold of a vector ----

    /// @param list_nos  size n; -1: zeros. @param codes  out, size n *
    /// code_size, or n * sa_code_size() with the list's number in front
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
    /// @param codes  size n * sa_code_size()
    void sa_encode(idx_t n, const float* x, uint8_t* codes) const override;
    void sa_decode(idx_t n, const uint8_t* codes, float* x) const override;
    /// The raw row if it is kept, else its best approximation.
    void reconstruct_from_offset(int64_t list_no, int64_t offset, float* x)
            const override;

    // ---- maintenance ----

    /** Fits the lists to the rows that are there now, if these lie farther from
     * the centroids or are spread less evenly than when the lists were fitted:
     * chooses centroids, then moves and encodes rows list by list. What cannot
     * be done within the bounds is done by the next calls. Does nothing, in
     * little time, where nothing is to be done.
     *
     * Needs raw rows or refine codes (rows kept in refine codes alone lose a
     * little precision each time), a flat quantizer that the index owns, which
     * steps replace, and lists in memory. Settings chosen by calibrate() stay
     * as they are.
     * @param rows     encodes about so many at most; 0: no bound
     * @param seconds  begins nothing afterwards; 0: no bound. What is chosen does
     *                 not depend on it, nor on the number of threads */
    ScaNNMaintenance maintain(size_t rows = 0, double seconds = 0);
    /** Measures how well the index suits its rows; reads some of them.
     * @param n        queries; 0: recall is not measured
     * @param queries  size n * d; nullptr with n > 0: n of the rows, each without
     *                 itself among its neighbours
     * @param k        1..ntotal - 1 if recall is measured */
    ScaNNHealth
    health(idx_t n = 0, const float* queries = nullptr, idx_t k = 10) const;
    /// An Array map becomes a Hashtable. With a map and a selector that lists its
    /// ids, the time depends on their number alone. @return  rows removed
    size_t remove_ids(const faiss::IDSelector& sel) override;
    /// Replaces rows; all ids must be known, each given once. With a direct
    /// map, the time depends on n alone.
    void update_vectors(int n, const idx_t* ids, const float* x) override;
    /// Tags of rows that are there; updates keep them. With a direct map, the time
    /// depends on n alone. @param ids  size n, each known and given once
    /// @param tags  size n
    void set_tags(idx_t n, const idx_t* ids, const int64_t* tags);
    /// @param tags  out, size n
    void get_tags(idx_t n, const idx_t* ids, int64_t* tags) const;
    /// Removes all rows and gives their memory back; stays trained.
    void reset() override;
    /// As IndexIVF's, which leave half a map if they throw; these, the old one.
    void set_direct_map_type(faiss::DirectMap::Type type);
    void make_direct_map(bool new_maintain_direct_map = true);
    void check_compatible_for_merge(const faiss::Index& other) const override;
    /// Takes all rows of an index with the same training, which is empty then.
    /// @param add_id  is added to their ids
    void merge_from(faiss::Index& other, idx_t add_id) override;
    void copy_subset_to(
            faiss::IndexIVF& other,
            SubsetType subset_type,
            idx_t a1,
            idx_t a2) const override;
#if FAISS_EXT_FAISS_VERSION >= 10704
    faiss::CodePacker* get_CodePacker() const override;
#endif

    /// For the library's own files and tests (model/index_state.h).
    IndexState& state();
    const IndexState& state() const;

 private:
    IndexIVFScaNN(
            std::unique_ptr<faiss::Index> quantizer,
            size_t d,
            size_t nlist,
            faiss::MetricType metric,
            const ScaNNOptions& options);

    std::unique_ptr<IndexState> state_;
};

} // namespace faiss_ext

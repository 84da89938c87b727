/*
 * The state of an index: all that IndexIVFScaNN hides. What training makes,
 * and the lists.
 *
 * In: options and rows, by index/. Out: what search/ and io/ read; they never
 * see the class.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <faiss_ext/codes/entry_layout.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/memory/query_rows.h>
#include <faiss_ext/memory/shared_value.h>
#include <faiss_ext/model/codec.h>
#include <faiss_ext/model/partition_plan.h>
#include <faiss_ext/model/scann_model.h>
#include <faiss_ext/partition/partition.h>
#include <faiss_ext/scann_options.h>

namespace faiss {
struct IndexFlat;
}

namespace faiss_ext {

struct IndexState {
    /// The index itself, as Faiss sees it: dimension, metric, quantizer,
    /// number of rows, direct map. Its `invlists` are `lists`, borrowed.
    const faiss::IndexIVF& ivf;
    const ScaNNOptions& options; ///< of the index

    /// empty before training
    SharedValue<Partition> partition;
    /// the partition replaces the quantizer, whose centroids it borrows
    bool quantizer_is_flat = false;
    SharedValue<ScaNNModel> model;
    ModelFit fit; ///< of lists and codes
    /// every vector once; no list before training
    std::unique_ptr<ScaNNLists> lists;
    /// second copies of vectors; nullptr without options.soar_lambda
    std::unique_ptr<ScaNNLists> spilled;
    /// made by the first removal or update; nullptr: not made yet
    std::unique_ptr<CopyPlaces> copy_places;
    /// where what views show is kept when it is replaced (versioned_scann.h);
    /// nullptr: there are no views
    RetiredMemory* retired = nullptr;
    /// what maintain() has begun; nullptr: nothing. Not saved
    std::unique_ptr<PartitionPlan> plan;
    /// rows that options.auto_maintain may still encode anew
    double maintenance_credit = 0;

    IndexState(const faiss::IndexIVF& ivf, const ScaNNOptions& options)
            : ivf(ivf), options(options) {}
    IndexState(const IndexState&) = delete;
    IndexState& operator=(const IndexState&) = delete;

    size_t d() const {
        return size_t(ivf.d);
    }
    bool is_l2() const {
        return ivf.metric_type == faiss::METRIC_L2;
    }
    /// rows can be rescored from more than codes
    bool keeps_rows() const {
        return options.with_raw_data || options.refine_type != RefineType::None;
    }
    /// of the primary lists
    EntryCodec codec() const {
        return {lists->layout(), model, keeps_rows()};
    }
    /// of the spilled copies, where there are any
    EntryCodec spilled_codec() const {
        return {spilled->layout(), model, keeps_rows()};
    }
};

/// Layout of the entries of the primary lists; needs the blocks of model.pq.
EntryLayout entry_layout(const IndexState& state);

/// The primary lists and the second set.
struct ListSets {
    std::unique_ptr<ScaNNLists> lists;
    std::unique_ptr<ScaNNLists> spilled; ///< nullptr without copies
};
ListSets empty_lists(const IndexState& state, size_t nlist);

/// The quantizer, if the partition can read its centroids in place and replace
/// it; else nullptr.
const faiss::IndexFlat* flat_quantizer(const IndexState& state);

/// Whether lists may be by direction (ScaNNModel::by_direction); training
/// decides (index/trials.h).
bool may_list_by_direction(const IndexState& state);

/// The partition of the quantizer's nlist centroids, for lists of this model.
Partition make_partition(const IndexState& state, const ScaNNModel& model);

/// ScaNNModel::list_groups, where there are lists enough for them; the model
/// needs its list_spread.
std::vector<uint32_t> make_list_groups(
        const IndexState& state,
        const ScaNNModel& model);

/// False if an exception left Faiss' direct map half filled (map_fits()).
bool direct_map_fits(const IndexState& state);

/// @throws faiss::FaissException before training
void check_trained(const IndexState& state);

/// How the index wants rows and queries.
RowScale row_scale(const IndexState& state);

/** Rows or queries as the index wants them (query_rows.h).
 * @param x      size n * d
 * @param what   "row" or "query", for messages
 * @param first  number of the first row, for messages
 * @return       x, or a copy in `storage`
 * @throws faiss::FaissException if a value is not finite, or a row to be
 *         scaled is zero */
const float* prepare_rows(
        const IndexState& state,
        size_t n,
        const float* x,
        const char* what,
        std::vector<float>& storage,
        size_t first = 0);

/// Lists of prepared rows. @param x  size n * d; @param lists  out, size n
void assign_lists(
        const IndexState& state,
        size_t n,
        const float* x,
        int64_t* lists);

/// Centroids of n lists, size n * d; zeros for lists of -1.
std::vector<float>
centroids_of(const IndexState& state, size_t n, const int64_t* lists);

/// Bytes held now, mapped files included.
size_t memory_usage(const IndexState& state);
/// Bytes that the index takes with n vectors in it, before it is trained.
/// @throws faiss::FaissException if n > 2^40
size_t estimate_memory(const IndexState& state, size_t n);

} // namespace faiss_ext

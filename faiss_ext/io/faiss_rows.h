/*
 * The rows of a Faiss index and the lists that they are in, read from its bytes.
 *
 * In: layers (faiss_layers). Out: rows, ids, centroids, all in one space; next:
 * import_from_faiss, which builds a ScaNN index of them.
 *
 * Rows are those of the outermost IndexRefine, else what the codes in the lists
 * say. They are in the space of that IndexRefine, else in that of the lists:
 * transforms around it stay, those inside of it are undone for the centroids.
 */

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <faiss/VectorTransform.h>

#include <faiss_ext/io/faiss_layers.h>

namespace faiss_ext {

/// What an index keeps of its rows, at best.
enum class RowStorage { Raw, FP16, BF16, Codes };

class FaissRows {
 public:
    /// @param root  its bytes are borrowed
    /// @throws faiss::FaissException if ids do not lead to rows
    explicit FaissRows(FaissLayer root);
    ~FaissRows();

    size_t d() const;
    faiss::MetricType metric() const {
        return root_.contents.metric;
    }
    RowStorage storage() const;
    /// "IndexIVFPQ": the part that keeps the rows
    const char* storage_name() const;
    /// Ids can be found without a look at all lists.
    bool finds_ids() const;

    /// Rows that are in lists, in the order of these.
    size_t n() const {
        return starts_.back();
    }
    /// false: one list without a centroid
    bool has_lists() const {
        return !leaf_->lists.empty();
    }
    size_t nlist() const {
        return starts_.size() - 1;
    }
    size_t nprobe() const {
        return leaf_->nprobe;
    }
    size_t list_start(size_t list_no) const {
        return starts_[list_no];
    }

    /** Rows begin..end - 1 of n().
     * @param rows   out, size (end - begin) * d()
     * @param ids    out, size end - begin, or nullptr
     * @param lists  the same */
    void get(
            size_t begin,
            size_t end,
            float* rows,
            int64_t* ids,
            int64_t* lists) const;

    /** The centroids, size nlist() * d(). Where rows are in another space than
     * the lists, and the way there keeps lengths, they are taken back; else
     * they are the means of the lists' rows. */
    std::vector<float> centroids() const;

    /// What rows and queries go through before they are in this space.
    std::vector<std::unique_ptr<faiss::VectorTransform>> transforms() const;

 private:
    class Codec;

    void find_path();
    int64_t outer_id(int64_t id, size_t until) const;
    void decode_list(size_t list_no, size_t begin, size_t end, float* rows)
            const;
    std::vector<float> leaf_centroids() const;
    bool take_back(std::vector<float>& rows) const;
    std::vector<float> means() const;

    FaissLayer root_;
    std::vector<const FaissLayer*> path_; ///< the outermost first, leaf last
    const FaissLayer* leaf_ = nullptr;
    size_t refine_ = 0; ///< its place in path_; size of path_: none
    std::vector<size_t> starts_;
    std::unique_ptr<Codec> codec_; ///< of the rows
    std::vector<float> list_centroids_;
};

} // namespace faiss_ext

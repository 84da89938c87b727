/*
 * What all nodes share: an IndexNode around a faiss::Index.
 *
 * Here: checks, threads, filters, cosine, results, blobs. A node adds its schema,
 * how to train, and how its index is searched.
 * faiss_node.cpp: build and rows; node_search.cpp: searches; node_blob.cpp:
 * blobs; node_index.h: reading while rows are added; node_support.cpp: the parts
 * below that are no methods.
 */

#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <faiss/IndexIVF.h>
#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/memory/per_process.h>

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/node_index.h>
#include <knowhere_plugin/parameters.h>
#include <knowhere_plugin/search_request.h>

namespace knowhere_plugin {

/// The rows of one query, some at a time; each once.
class RowsInPieces {
 public:
    /// rows of a piece, at most: most callers read no more
    static constexpr size_t kMost = 128;

    virtual ~RowsInPieces() = default;
    /// Nearest first; none at the end.
    virtual Hits next() = 0;
};

class FaissNode : public IndexNode {
 public:
    /// @param schema  borrowed, for ever
    FaissNode(const char* type, std::span<const Parameter> schema)
            : type_(type), schema_(schema) {}

    Status Build(const DataSet&, const Config&) noexcept override;
    Status Train(const DataSet&, const Config&) noexcept override;
    Status Add(const DataSet&, const Config&) noexcept override;
    Expected<DataSet> Search(const DataSet&, const Config&, const BitsetView&)
            const noexcept override;
    Expected<DataSet> RangeSearch(
            const DataSet&,
            const Config&,
            const BitsetView&) const noexcept override;
    Expected<Iterators> AnnIterator(
            const DataSet&,
            const Config&,
            const BitsetView&) const noexcept override;
    Expected<DataSet> GetVectorByIds(const DataSet&) const noexcept override;
    bool HasRawData(const std::string& metric) const noexcept override;
    Expected<Blob> Serialize() const noexcept override;
    Status Deserialize(std::span<const uint8_t>, const Config&) noexcept
            override;
    Status DeserializeFromFile(const std::string&, const Config&) noexcept
            override;
    int64_t Dim() const noexcept override;
    int64_t Size() const noexcept override;
    int64_t Count() const noexcept override;
    const char* Type() const noexcept override {
        return type_;
    }
    std::span<const Parameter> Schema() const noexcept override {
        return schema_;
    }
    Status CheckConfig(const Config&, unsigned phases) const noexcept override;
    const char* MetricType() const noexcept override;

 protected:
    /** A trained index without rows.
     *  @param n        at least 1 (without rows, one unit vector is passed)
     *  @param x        size n * d; unit length, or zero, for COSINE if
     *                  normalizes_rows() */
    virtual std::unique_ptr<faiss::Index> train_index(
            int64_t n,
            int64_t d,
            const float* x,
            Metric metric,
            const Parameters& parameters) const = 0;

    /// @param x  as of train_index(). On an exception the index is as before.
    virtual void add_to_index(faiss::Index& index, int64_t n, const float* x)
            const;

    /// Whether calibrate_index() does anything.
    virtual bool calibrates(const Parameters&) const {
        return false;
    }
    /// After rows were added by a call with these parameters.
    virtual void calibrate_index(faiss::Index&, const Parameters&) const {}

    /// @throws Fault if values of a build exclude each other, naming all of
    /// them
    virtual void check_build(const Parameters&) const {}
    /// The same for a search.
    virtual void check_search(const Parameters&, int64_t /* k */) const {}

    /// Fills the results of a request, on this thread alone. Its k is at least
    /// 1, at most the rows that pass.
    virtual void search_index(
            const faiss::Index& index,
            const SearchRequest& request) const = 0;

    /** For iterators of an index that has versions; nullptr: they search again,
     * for more rows.
     * @param query   size d; @param filter  borrowed by the result */
    virtual std::unique_ptr<RowsInPieces> rows_in_pieces(
            const faiss::Index& /* index */,
            const float* /* query */,
            const Parameters&,
            const RowFilter& /* filter */) const {
        return nullptr;
    }

    /// In any order, on this thread alone.
    virtual Hits search_range(
            const faiss::Index& index,
            const RangeRequest& request) const = 0;

    /// A second, complete search for queries that got less than k.
    virtual bool completes_short_results(const Parameters&) const {
        return false;
    }
    /// Whether any finite rows are safe. Faiss' own indexes read out of bounds
    /// if distances become infinite.
    virtual bool takes_any_length() const {
        return false;
    }
    /// For COSINE: rows and queries are scaled before the index sees them.
    virtual bool normalizes_rows() const {
        return true;
    }
    virtual bool keeps_raw_rows(const faiss::Index* index, Metric metric)
            const = 0;
    virtual int64_t bytes_of(const faiss::Index& index) const;
    virtual Blob write(const faiss::Index& index, Metric metric) const;
    /// @throws Fault(invalid_binary_set)
    virtual BuiltIndex read(std::span<const uint8_t> blob) const;
    virtual BuiltIndex read_file(const std::string& path, bool mmap) const;

 private:
    friend class NodeIterator;
    friend class PieceIterator;

    BuiltIndex train_new(const DataSet& rows, const Parameters& parameters)
            const;
    void add_rows(faiss::Index& index, Metric metric, const DataSet& rows)
            const;
    void replace(BuiltIndex built);
    /// @throws Fault  if nothing was built or loaded
    NodeIndex::Reading reading() const;
    template <class Number>
    int64_t number(Number&& number) const noexcept;
    /// COSINE: unit rows, zero rows stay; else empty.
    std::vector<float> unit_rows(const DataSet& rows, Metric metric) const;
    void check_metric(const Parameters& parameters, Metric metric) const;
    void check_rows(const DataSet& rows, const char* what, int64_t d) const;
    void check_lengths(const DataSet& rows, const char* what, Metric metric)
            const;
    /// All of these, for queries of the index.
    void check_queries(
            const NodeIndex::Reading& index,
            const DataSet& queries,
            const Parameters& parameters) const;
    void check_ids(const NodeIndex::Reading& index, const DataSet& ids) const;
    /// Fills all results with -1 and the worst value.
    void search_rows(
            const NodeIndex::Reading& index,
            const SearchRequest& request) const;
    /// Searches the whole index for queries that got less than the k results
    /// that there are.
    void complete_results(
            const NodeIndex::Reading& index,
            const SearchRequest& request) const;
    /// For iterators: the k nearest first, of the rows that the filter knows.
    Hits next_nearest(
            const std::vector<float>& query,
            int64_t k,
            const Parameters& parameters,
            const RowFilter& filter,
            SearchScope scope) const;

    struct Pieces;
    /// For iterators: the next rows.
    Hits next_piece(Pieces& pieces) const;

    const char* type_;
    std::span<const Parameter> schema_;
    CurrentIndex current_;
    /// of who builds, loads or adds
    faiss_ext::PerProcess<std::mutex> writing_;
    mutable RowPlaces places_;
};

/** Searches of a Faiss index with its own parameters; the filter is put into
 * them. At most `batch` queries at a time. */
void search_faiss(
        const faiss::Index& index,
        faiss::SearchParameters& parameters,
        int64_t batch,
        const SearchRequest& request);
Hits search_faiss_range(
        const faiss::Index& index,
        faiss::SearchParameters& parameters,
        const RangeRequest& request);

/// The hits of one query.
Hits hits_in(const faiss::RangeSearchResult& found);

/// Sets the OpenMP threads of the calling thread, and restores them at the end.
class ThreadScope {
 public:
    /// @param threads  0: as they are
    explicit ThreadScope(int threads);
    ~ThreadScope();
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

 private:
    int before_;
};

} // namespace knowhere_plugin

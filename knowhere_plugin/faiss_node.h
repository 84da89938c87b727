/*
 * What all nodes share: an IndexNode around a faiss::Index.
 *
 * Here: checks, locks, threads, filters, cosine, results, blobs. A node adds
 * its schema, how to train, and how its index is searched.
 * faiss_node.cpp: build and rows; node_search.cpp: searches; node_blob.cpp:
 * blobs; node_support.cpp: the parts below that are no methods.
 */

#pragma once

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include <faiss/IndexIVF.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/IDSelector.h>

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/parameters.h>

namespace knowhere_plugin {

enum class Metric : uint32_t { L2 = 0, IP = 1, COSINE = 2 };

Metric metric_of(const std::string& word);
const char* name_of(Metric metric);

/// (id, distance)
using Hits = std::vector<std::pair<int64_t, float>>;

/// How much of the index a search looks at.
struct Reach {
    /// times what the parameters say: lists visited, rows kept in a graph
    int64_t factor = 1;
    /// every row, scored as well as the index can
    bool complete = false;
};
constexpr Reach kUsual{1, false};
constexpr Reach kComplete{1, true};

/// The bits of a call, the other way round: set = passes.
class RowFilter {
 public:
    /// Copies the bits. @param rows  rows of the index
    RowFilter(const BitsetView& filtered, int64_t rows);

    /// nullptr if every row passes
    faiss::IDSelector* selector() const {
        return selector_.get();
    }
    int64_t rows() const {
        return rows_;
    }
    /// rows that pass
    int64_t passing() const {
        return passing_;
    }

 private:
    std::vector<uint64_t> words_;
    std::unique_ptr<faiss::IDSelectorBitmap> selector_;
    int64_t rows_;
    int64_t passing_;
};

/// One call, checked.
struct SearchCall {
    const Parameters& parameters;
    const RowFilter& filter;
    Reach reach;
};

/** Where an IVF index keeps each row, found when first asked for. Not Faiss'
 * direct map: that would change the index, and go into its blobs. */
class RowPlaces {
 public:
    /// By id: list << 32 | offset (faiss::lo_build). Thread-safe; valid until
    /// forget().
    const std::vector<uint64_t>& of(const faiss::IndexIVF& index);
    void forget();

 private:
    std::mutex mutex_;
    std::vector<uint64_t> places_;
};

/// An index and what its node knows of it.
struct Held {
    std::unique_ptr<faiss::Index> index;
    Metric metric = Metric::L2;
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

 protected:
    /** A trained index without rows.
     *  @param n        at least 1 (a unit vector stands in for none)
     *  @param x        size n * d; unit length, or zero, for COSINE if
     *                  normalizes_here() */
    virtual std::unique_ptr<faiss::Index> train_index(
            int64_t n,
            int64_t d,
            const float* x,
            Metric metric,
            const Parameters& parameters) const = 0;

    /// Whether tune() has anything to do.
    virtual bool tunes(const Parameters&) const {
        return false;
    }
    /// After rows were added by a call with these parameters.
    virtual void tune(faiss::Index&, const Parameters&) const {}

    /// Cross checks of a Search, with both numbers in the message.
    virtual void check_search(const Parameters&, int64_t /* k */) const {}

    /** The k nearest of each query, on this thread alone.
     *  @param k  at least 1, at most the rows that pass
     *  @param distances, labels  size n * k */
    virtual void search_index(
            const faiss::Index& index,
            const SearchCall& call,
            int64_t n,
            const float* x,
            int64_t k,
            float* distances,
            int64_t* labels) const = 0;

    /// Rows nearer than the radius, in any order, on this thread alone.
    virtual Hits search_range(
            const faiss::Index& index,
            const SearchCall& call,
            const float* query,
            float radius) const = 0;

    /// What was kept of the index is no longer valid: it has changed.
    virtual void forget() const {}

    /// A second, complete search for queries that got less than k.
    virtual bool fills_up(const Parameters&) const {
        return false;
    }
    /// For COSINE: rows and queries are scaled before the index sees them.
    virtual bool normalizes_here() const {
        return true;
    }
    virtual bool keeps_rows(const faiss::Index* index, Metric metric) const = 0;
    virtual int64_t bytes_of(const faiss::Index& index) const;
    virtual Blob write(const Held& held) const;
    /// @throws Fault(invalid_binary_set)
    virtual Held read(std::span<const uint8_t> blob) const;
    virtual Held read_file(const std::string& path, bool mmap) const;

 private:
    friend class NodeIterator;

    Held train_held(const DataSet& rows, const Parameters& parameters) const;
    void add_rows(Held& held, const DataSet& rows) const;
    void replace(Held held);
    /// COSINE: unit rows, zero rows stay; else empty.
    std::vector<float> scaled(const DataSet& rows, Metric metric) const;
    void check_held() const;
    void check_metric(const Parameters& parameters) const;
    void check_rows(const DataSet& rows, const char* what, int64_t d) const;
    /// @param distances, labels  size n * k, filled to the end
    void search_rows(
            const SearchCall& call,
            int64_t n,
            const float* x,
            int64_t k,
            float* distances,
            int64_t* labels) const;
    /// For iterators: the k nearest first, of the rows that the filter knows.
    Hits hits_of(
            const std::vector<float>& query,
            int64_t k,
            const SearchCall& call) const;

    const char* type_;
    std::span<const Parameter> schema_;
    mutable std::shared_mutex mutex_;
    Held held_;
    mutable RowPlaces places_;
};

/** Searches of a Faiss index with its own parameters; the filter is put into
 * them. At most `batch` queries at a time. */
void search_faiss(
        const faiss::Index& index,
        faiss::SearchParameters& parameters,
        const RowFilter& filter,
        int64_t batch,
        int64_t n,
        const float* x,
        int64_t k,
        float* distances,
        int64_t* labels);
Hits search_faiss_range(
        const faiss::Index& index,
        faiss::SearchParameters& parameters,
        const RowFilter& filter,
        const float* query,
        float radius);

/// The hits of one query.
Hits hits_in(const faiss::RangeSearchResult& found);

/// OpenMP threads of the calling thread, put back at the end.
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

/*
 * What all nodes share: an IndexNode around a faiss::Index.
 *
 * Here: checks, locks, threads, filters, cosine, results, blobs. A node adds
 * its schema, how to train, and the Faiss parameters of a search.
 */

#pragma once

#include <memory>
#include <shared_mutex>
#include <string>
#include <vector>

#include <faiss/Index.h>
#include <faiss/impl/IDSelector.h>

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/parameters.h>

namespace knowhere_plugin {

enum class Metric : uint32_t { L2 = 0, IP = 1, COSINE = 2 };

Metric metric_of(const std::string& word);
const char* name_of(Metric metric);

/// How much of the index a search looks at.
enum class Reach {
    Usual,    ///< what the parameters say
    Complete, ///< every row, scored as well as the index can
};

/// The bits of a call, the other way round: set = passes.
class RowFilter {
 public:
    /// Copies the bits. @param rows  rows of the index
    RowFilter(const BitsetView& filtered, int64_t rows);

    /// nullptr if every row passes
    const faiss::IDSelector* selector() const {
        return selector_.get();
    }
    /// rows that pass
    int64_t passing() const {
        return passing_;
    }

 private:
    std::vector<uint64_t> words_;
    std::unique_ptr<faiss::IDSelectorBitmap> selector_;
    int64_t passing_;
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
     *  @param x        size n * d; unit length for COSINE if
     *                  normalizes_here() */
    virtual std::unique_ptr<faiss::Index> train_index(
            int64_t n,
            int64_t d,
            const float* x,
            Metric metric,
            const Parameters& parameters) const = 0;

    /// Cross checks of a Search, with both numbers in the message.
    virtual void check_search(const Parameters&, int64_t /* k */) const {}

    /// @param k  at least 1, at most the rows of the index
    virtual std::unique_ptr<faiss::SearchParameters> search_parameters(
            const faiss::Index& index,
            const Parameters& parameters,
            int64_t k,
            Reach reach) const = 0;

    /// What is searched: the index, or what it scans to see every row.
    virtual const faiss::Index& searched(
            const faiss::Index& index,
            Reach /* reach */,
            bool /* filtered */) const {
        return index;
    }
    virtual Reach range_reach() const {
        return Reach::Usual;
    }
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
    using Hits = std::vector<std::pair<int64_t, float>>;

    Held train_held(const DataSet& rows, const Parameters& parameters) const;
    void add_rows(Held& held, const DataSet& rows) const;
    std::vector<float> scaled(const DataSet& rows, Metric metric) const;
    void check_held() const;
    void check_metric(const Parameters& parameters) const;
    void check_rows(const DataSet& rows, const char* what, int64_t d) const;
    /// @param distances, labels  size n * k, filled to the end
    void search_rows(
            int64_t n,
            const float* x,
            int64_t k,
            const Parameters& parameters,
            const RowFilter& filter,
            Reach reach,
            float* distances,
            int64_t* labels) const;
    /// For iterators: nearest first. Takes the lock.
    Hits hits_of(
            const std::vector<float>& query,
            int64_t k,
            const Parameters& parameters,
            const RowFilter& filter,
            Reach reach) const;

    const char* type_;
    std::span<const Parameter> schema_;
    mutable std::shared_mutex mutex_;
    /// direct maps are made when first needed
    mutable Held held_;
};

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

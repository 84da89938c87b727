/*
 * Index types behind one interface, with Knowhere's names and meaning, for
 * hosts of any kind: none of a host's headers is needed here.
 *
 *   auto node = IndexFactory::Instance().Create("SCANN").value();
 *   node->Build({n, d, rows}, {{"metric_type", "IP"}, {"nlist", "256"}});
 *   auto found = node->Search({1, d, query}, {{"k", "10"}});
 *   if (found.ok()) { use(found.value().ids, found.value().distance); }
 *
 * Ids are row numbers in the order of Add. Nothing here throws: every error is
 * a Status. Beside it: data_set.h. Behind it: parameters.h, search_request.h,
 * faiss_node.h and the nodes.
 */

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <knowhere_plugin/data_set.h>

namespace knowhere_plugin {

/// key -> value as clients spell it: "16", "0.5", "True", "true", "\"IP\""
using Config = std::map<std::string, std::string>;
using Blob = std::vector<uint8_t>;

enum class ParameterType { Integer, Real, Bool, Word };
enum Phase : unsigned { kBuild = 1, kSearch = 2, kRange = 4, kLoad = 8 };

/// One row of a node's schema.
struct Parameter {
    const char* name;
    ParameterType type;
    const char* default_value; ///< "": none
    double min, max;           ///< Integer, Real
    const char* words;         ///< Word: "L2|IP|COSINE"; "": any
    unsigned phases;           ///< where it takes effect, Phase
    const char* doc;
};

/** Returns one row after the other, nearest first within each piece; every row
 * that passes comes once. Rows added since do not come; SCANN's is at an error
 * once its node holds another index. For one thread; the node must outlive it. */
class Iterator {
 public:
    virtual ~Iterator() = default;
    virtual Expected<bool> HasNext() noexcept = 0;
    /// (id, distance); invalid_args at the end
    virtual Expected<std::pair<int64_t, float>> Next() noexcept = 0;
};

/** An index. Searches may run at the same time on one object, also during Add.
 * Search runs on the calling thread alone; Build uses num_build_thread threads.
 * Keys of another phase are checked but have no effect. */
class IndexNode {
 public:
    using Iterators = std::vector<std::unique_ptr<Iterator>>;

    virtual ~IndexNode() = default;
    /// Train, then Add.
    virtual Status Build(const DataSet& rows, const Config&) noexcept = 0;
    /// Drops what was there before.
    virtual Status Train(const DataSet& rows, const Config&) noexcept = 0;
    virtual Status Add(const DataSet& rows, const Config&) noexcept = 0;
    virtual Expected<DataSet> Search(
            const DataSet& queries,
            const Config&,
            const BitsetView& filtered = {}) const noexcept = 0;
    /// L2: range_filter <= distance < radius; IP, COSINE: radius < similarity
    /// <= range_filter
    virtual Expected<DataSet> RangeSearch(
            const DataSet& queries,
            const Config&,
            const BitsetView& filtered = {}) const noexcept = 0;
    /// One iterator per query. The bits are copied.
    virtual Expected<Iterators> AnnIterator(
            const DataSet& queries,
            const Config&,
            const BitsetView& filtered = {}) const noexcept = 0;
    /// The rows as they were given, bit by bit; needs HasRawData.
    virtual Expected<DataSet> GetVectorByIds(
            const DataSet& ids) const noexcept = 0;
    virtual bool HasRawData(const std::string& metric) const noexcept = 0;
    virtual Expected<Blob> Serialize() const noexcept = 0;
    /// On failure the node stays as it was.
    virtual Status Deserialize(
            std::span<const uint8_t> blob,
            const Config& = {}) noexcept = 0;
    /// enable_mmap=true maps the file where the type has Feature::kMmap.
    virtual Status DeserializeFromFile(
            const std::string& path,
            const Config& = {}) noexcept = 0;
    virtual int64_t Dim() const noexcept = 0;
    virtual int64_t Size() const noexcept = 0;  ///< bytes held
    virtual int64_t Count() const noexcept = 0; ///< rows
    virtual const char* Type() const noexcept = 0;
    virtual std::span<const Parameter> Schema() const noexcept = 0;
    /** What calls of these phases (Phase, or several) refuse before they look
     * at rows: keys that none of them knows, values out of range, values that
     * exclude each other. */
    virtual Status CheckConfig(const Config&, unsigned /* phases */)
            const noexcept {
        return {};
    }
    /// L2, IP or COSINE; nullptr before Train and Deserialize.
    virtual const char* MetricType() const noexcept {
        return nullptr;
    }
};
using NodePtr = std::shared_ptr<IndexNode>;

/// Feature bits as in Knowhere.
enum Feature : uint64_t {
    kFloat32 = 1 << 1,
    kNoTrain = 1 << 16,
    kKnn = 1 << 17, ///< exact
    kMmap = 1 << 19,
};

constexpr int32_t kMinVersion = 0, kCurrentVersion = 8, kMaxVersion = 11;

/// Thread-safe. Holds SCANN, FLAT, IVF_FLAT, IVF_PQ, HNSW from the start.
class KNOWHERE_PLUGIN_API IndexFactory {
 public:
    using Creator = std::function<NodePtr(int32_t version)>;

    static IndexFactory& Instance() noexcept;
    virtual ~IndexFactory() = default;
    /// As in Knowhere the last registration of a name wins; features add up.
    /// Virtual: a module loaded by dlopen needs no symbol of this library.
    virtual Status Register(
            const std::string& name,
            Creator creator,
            uint64_t features) noexcept = 0;
    virtual Expected<NodePtr> Create(
            const std::string& name,
            int32_t version = kCurrentVersion) const noexcept = 0;
    /// name -> features
    virtual std::map<std::string, uint64_t> Types() const noexcept = 0;
    /// Loads a module and calls its extern "C"
    /// void knowhere_plugin_register(knowhere_plugin::IndexFactory*).
    virtual Status Load(const std::string& path) noexcept = 0;
};

} // namespace knowhere_plugin

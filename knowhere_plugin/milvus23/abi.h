/*
 * The types that Milvus 2.3.5 (Knowhere v2.2.3) and a node exchange: our own
 * declarations of its binary interface. Both sides compile these types inline;
 * only two functions are in the host (host_guard.h).
 *
 * Members, order and sizes are the interface; names are not, since the host
 * uses no type information of ours. Old std::string everywhere. Beside it:
 * engine_c.h, the border to our own libraries.
 */

#pragma once

#include <any>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#if !defined(__x86_64__) || !defined(__GLIBCXX__)
#error "Milvus 2.3.5 from PyPI is x86-64 with libstdc++"
#elif _GLIBCXX_USE_CXX11_ABI != 0
#error "the host's std::string is the old one: -D_GLIBCXX_USE_CXX11_ABI=0"
#endif

namespace knowhere_plugin::milvus23::abi {

enum class Status : int32_t {
    success = 0,
    invalid_args = 1,
    not_implemented = 7,
    malloc_error = 13,
    invalid_binary_set = 19,
    last = 20,
};

template <class T>
struct Expected {
    std::optional<T> value;
    Status status = Status::success;
    std::string message;
};

// ------------------------------------------------------------------- data

struct BitsetView {
    const uint8_t* bits = nullptr;
    size_t size = 0; ///< bits; never 0 in the host's searches
};

struct Binary {
    std::shared_ptr<uint8_t[]> data;
    int64_t size = 0;
};
using BinarySet = std::map<std::string, std::shared_ptr<Binary>>;

class DataSet {
 public:
    using Value = std::variant<
            const float*,
            const size_t*,
            const int64_t*,
            const void*,
            int64_t,
            std::string,
            std::any>;

    DataSet() = default;
    ~DataSet() {
        if (!owns_) {
            return;
        }
        for (auto& [key, value] : values_) {
            if (auto floats = std::get_if<const float*>(&value)) {
                delete[] * floats;
            } else if (auto sizes = std::get_if<const size_t*>(&value)) {
                delete[] * sizes;
            } else if (auto ids = std::get_if<const int64_t*>(&value)) {
                delete[] * ids;
            } else if (auto bytes = std::get_if<const void*>(&value)) {
                delete[] static_cast<const char*>(*bytes);
            }
        }
    }
    DataSet(const DataSet&) = delete;
    DataSet& operator=(const DataSet&) = delete;

    /// arrays by new[]; tensors as bytes
    void set(const char* key, Value value) {
        std::unique_lock lock(mutex_);
        values_[key] = std::move(value);
    }
    /// T() if there is none
    template <class T>
    T get(const char* key) const {
        std::shared_lock lock(mutex_);
        auto found = values_.find(key);
        auto value = found == values_.end() ? nullptr
                                            : std::get_if<T>(&found->second);
        return value == nullptr ? T() : *value;
    }
    void own(bool owns) {
        owns_ = owns;
    }

 private:
    mutable std::shared_mutex mutex_;
    std::map<std::string, Value> values_;
    bool owns_ = true;
};
using DataSetPtr = std::shared_ptr<DataSet>;

constexpr const char* kRows = "rows";         ///< int64_t
constexpr const char* kDim = "dim";           ///< int64_t
constexpr const char* kTensor = "tensor";     ///< const void*
constexpr const char* kIds = "ids";           ///< const int64_t*
constexpr const char* kDistance = "distance"; ///< const float*
constexpr const char* kLims = "lims";         ///< const size_t*

// ------------------------------------------------------------------ config

/// Phases of an entry, as bits.
enum Phase : uint32_t {
    kTrain = 1,
    kSearch = 2,
    kRangeSearch = 4,
    kDeserializeFromFile = 32,
};

/// Where the host writes a value that it finds in a request under the key of
/// the entry. Without default and not allowed to be empty, it is an error.
struct StringEntry {
    std::optional<std::string>* value = nullptr;
    uint32_t phases = 0;
    std::optional<std::string> default_value;
    std::optional<std::string> description;
    bool may_be_empty = true;
};

template <class T>
struct NumberEntry {
    std::optional<T>* value = nullptr;
    std::optional<T> default_value;
    uint32_t phases = 0;
    std::optional<std::pair<T, T>> range;
    std::optional<std::string> description;
    bool may_be_empty = true;
};
using FloatEntry = NumberEntry<float>;
using IntegerEntry = NumberEntry<int32_t>;

template <class T>
struct PlainEntry {
    std::optional<T>* value = nullptr;
    std::optional<T> default_value;
    uint32_t phases = 0;
    std::optional<std::string> description;
    bool may_be_empty = true;
};
using ListEntry = PlainEntry<std::list<int32_t>>;
using BoolEntry = PlainEntry<bool>;

using Entry = std::
        variant<StringEntry, FloatEntry, IntegerEntry, ListEntry, BoolEntry>;

class Config {
 public:
    virtual ~Config() = default;

    std::unordered_map<std::string, Entry> entries;
};

/// Milvus 2.3.5 knows the entries only, 2.3.2 and 2.3.3 also read k.
class BaseConfig : public Config {
 public:
    virtual Status CheckAndAdjustForSearch(std::string*) {
        return Status::success;
    }
    virtual Status CheckAndAdjustForRangeSearch(std::string*) {
        return Status::success;
    }
    virtual Status CheckAndAdjustForIterator() {
        return Status::success;
    }
    virtual Status CheckAndAdjustForBuild() {
        return Status::success;
    }

    std::optional<std::string> metric_type;
    std::optional<int32_t> k;
    std::optional<int32_t> num_build_thread;
    std::optional<bool> retrieve_friendly = false;
    std::optional<std::string> data_path;
    std::optional<std::string> index_prefix;
    std::optional<float> radius;
    std::optional<float> range_filter;
    std::optional<bool> trace_visit = false;
    std::optional<bool> enable_mmap = false;
    std::optional<bool> for_tuning = false;
};

// -------------------------------------------------------------------- node

/// Counts its owners; the last one deletes it.
class Object {
 public:
    virtual ~Object() = default;

    void take() const {
        owners_.fetch_add(1, std::memory_order_relaxed);
    }
    /// @return whether that was the last owner
    bool drop() const {
        return owners_.fetch_sub(1, std::memory_order_acq_rel) == 1;
    }

 private:
    mutable std::atomic<uint32_t> owners_{1};
};

/// Never asked for by Milvus 2.3.5.
class Iterator {
 public:
    virtual std::pair<int64_t, float> Next() = 0;
    virtual bool HasNext() const = 0;
    virtual ~Iterator() = default;
};
using Iterators = std::vector<std::shared_ptr<Iterator>>;

class IndexNode : public Object {
 public:
    explicit IndexNode(int32_t version) : version(version) {}

    virtual Status Build(const DataSet&, const Config&) = 0;
    virtual Status Train(const DataSet&, const Config&) = 0;
    virtual Status Add(const DataSet&, const Config&) = 0;
    virtual Expected<DataSetPtr>
    Search(const DataSet&, const Config&, const BitsetView&) const = 0;
    virtual Expected<Iterators>
    AnnIterator(const DataSet&, const Config&, const BitsetView&) const = 0;
    virtual Expected<DataSetPtr>
    RangeSearch(const DataSet&, const Config&, const BitsetView&) const = 0;
    virtual Expected<DataSetPtr> GetVectorByIds(const DataSet&) const = 0;
    virtual bool HasRawData(const std::string& metric) const = 0;
    virtual Expected<DataSetPtr> GetIndexMeta(const Config&) const = 0;
    virtual Status Serialize(BinarySet&) const = 0;
    virtual Status Deserialize(const BinarySet&, const Config&) = 0;
    virtual Status DeserializeFromFile(const std::string&, const Config&) = 0;
    virtual std::unique_ptr<BaseConfig> CreateConfig() const = 0;
    virtual int64_t Dim() const = 0;
    virtual int64_t Size() const = 0;
    virtual int64_t Count() const = 0;
    virtual std::string Type() const = 0;

    int32_t version;
};

/// One owner of a node.
class Index {
 public:
    /// @param node  becomes its owner
    explicit Index(IndexNode* node) : node_(node) {}
    Index(const Index& other) : node_(other.node_) {
        if (node_ != nullptr) {
            node_->take();
        }
    }
    Index& operator=(Index other) {
        std::swap(node_, other.node_);
        return *this;
    }
    ~Index() {
        if (node_ != nullptr && node_->drop()) {
            delete node_;
        }
    }
    IndexNode* node() const {
        return node_;
    }

 private:
    IndexNode* node_;
};

// --------------------------------------------------------------- functions

using Creator = std::function<Index(const int32_t& version, const Object&)>;
/// IndexFactory::Instance() and IndexFactory::Register(name, creator)
using InstanceFunction = void* (*)();
using RegisterFunction =
        const void* (*)(void* factory, const std::string& name, Creator);

static_assert(sizeof(std::string) == 8);
static_assert(sizeof(Expected<DataSetPtr>) == 40);
static_assert(sizeof(Expected<Iterators>) == 48);
static_assert(sizeof(BitsetView) == 16);
static_assert(sizeof(Binary) == 24 && sizeof(BinarySet) == 48);
static_assert(sizeof(DataSet::Value) == 24 && sizeof(DataSet) == 112);
static_assert(sizeof(StringEntry) == 56 && sizeof(FloatEntry) == 56);
static_assert(sizeof(IntegerEntry) == 56 && sizeof(ListEntry) == 64);
static_assert(sizeof(BoolEntry) == 40 && sizeof(Entry) == 72);
static_assert(sizeof(Config) == 64 && sizeof(BaseConfig) == 160);
static_assert(sizeof(Object) == 16 && sizeof(IndexNode) == 16);
static_assert(sizeof(Index) == 8 && !std::is_trivially_copyable_v<Index>);
static_assert(sizeof(Creator) == 32);

} // namespace knowhere_plugin::milvus23::abi

#include <knowhere_plugin/milvus23/node.h>

#include <algorithm>
#include <cstring>
#include <new>

#include <knowhere_plugin/milvus23/counters.h>
#include <knowhere_plugin/milvus23/engine_c.h>
#include <knowhere_plugin/milvus23/node_config.h>
#include <knowhere_plugin/preload/plugin_log.h>

namespace knowhere_plugin::milvus23 {

namespace {

using abi::BinarySet;
using abi::BitsetView;
using abi::Config;
using abi::DataSet;
using abi::DataSetPtr;
using abi::Expected;
using abi::Status;

/// The host knows the numbers up to `last`.
Status status_of(const EngineFailure& failure) {
    bool known = failure.code > 0 && failure.code <= int32_t(Status::last);
    return known ? Status(failure.code) : Status::invalid_args;
}

void set_failure(EngineFailure* failure, Status status, const char* text) {
    failure->code = int32_t(status);
    snprintf(failure->text, sizeof(failure->text), "%s", text);
}

template <class T>
Expected<T> refused(const EngineFailure& failure) {
    Expected<T> answer;
    answer.status = status_of(failure);
    try {
        answer.message = failure.text;
    } catch (...) { // no memory: without message
    }
    return answer;
}

EngineRows rows_of(const DataSet& data) {
    return {data.get<int64_t>(abi::kRows),
            data.get<int64_t>(abi::kDim),
            static_cast<const float*>(data.get<const void*>(abi::kTensor))};
}

/// The host's bitset has one bit for each row even if none is set.
EngineFilter filter_of(const BitsetView& bitset, int64_t rows) {
    size_t bytes = bitset.size / 8;
    const uint8_t* bits = bitset.bits;
    bool any = bitset.size < size_t(std::max<int64_t>(rows, 0));
    size_t i = 0;
    for (; !any && i + 8 <= bytes; i += 8) {
        uint64_t word;
        std::memcpy(&word, bits + i, 8);
        any = word != 0;
    }
    for (; !any && i < bytes; i++) {
        any = bits[i] != 0;
    }
    if (!any && bitset.size % 8 != 0) {
        any = (bits[bytes] & ((1u << bitset.size % 8) - 1)) != 0;
    }
    return any && bits != nullptr ? EngineFilter{bits, bitset.size}
                                  : EngineFilter{nullptr, 0};
}

/// Releases what the engine gave.
class Result {
 public:
    Result() = default;
    ~Result() {
        engine_release(&result);
    }
    Result(const Result&) = delete;
    Result& operator=(const Result&) = delete;

    EngineResult result{};
};

/// For DataSet::set(), which the host's delete[] ends.
template <class T>
const T* copy_of(const T* values, size_t count) {
    T* copy = new T[count];
    std::copy_n(values, count, copy);
    return copy;
}

class Node : public abi::IndexNode {
 public:
    /// @param engine  nullptr: every call fails, as memory ran out
    Node(int32_t version, EngineNode* engine)
            : IndexNode(version), engine_(engine) {
        if (engine_ != nullptr) {
            count(Counter::nodes);
            count(Counter::live_nodes);
        }
    }
    ~Node() override {
        if (engine_ != nullptr) {
            engine_destroy(engine_);
            count_down(Counter::live_nodes);
        }
    }

    Status Build(const DataSet& rows, const Config& config) override {
        return build(BuildStep::Both, rows, config);
    }
    Status Train(const DataSet& rows, const Config& config) override {
        return build(BuildStep::Train, rows, config);
    }
    Status Add(const DataSet& rows, const Config& config) override {
        return build(BuildStep::Add, rows, config);
    }

    Expected<DataSetPtr> Search(
            const DataSet& queries,
            const Config& config,
            const BitsetView& bitset) const override {
        TimeCount time(Counter::search_ns);
        int64_t nq = 0;
        auto answer = search_with(engine_search, queries, config, bitset, &nq);
        if (!answer.value) {
            count(Counter::search_failures);
            return answer;
        }
        count(Counter::searches);
        count(Counter::queries, uint64_t(nq));
        count_max(Counter::max_nq, uint64_t(nq));
        return answer;
    }

    Expected<DataSetPtr> RangeSearch(
            const DataSet& queries,
            const Config& config,
            const BitsetView& bitset) const override {
        TimeCount time(Counter::range_ns);
        int64_t nq = 0;
        auto answer =
                search_with(engine_range_search, queries, config, bitset, &nq);
        if (!answer.value) {
            count(Counter::range_failures);
            return answer;
        }
        count(Counter::ranges);
        count(Counter::range_queries, uint64_t(nq));
        return answer;
    }

    Expected<abi::Iterators> AnnIterator(
            const DataSet&,
            const Config&,
            const BitsetView&) const override {
        EngineFailure failure;
        set_failure(
                &failure,
                Status::not_implemented,
                "SCANN: iterators (Milvus 2.3.5 makes them of range searches)");
        return refused<abi::Iterators>(failure);
    }

    Expected<DataSetPtr> GetVectorByIds(const DataSet& ids) const override {
        EngineFailure failure{};
        Expected<DataSetPtr> answer;
        bool done = guarded(&failure, [&] {
            Result vectors;
            int64_t rows = ids.get<int64_t>(abi::kRows);
            if (!engine_vectors(
                        engine_,
                        ids.get<const int64_t*>(abi::kIds),
                        rows,
                        &vectors.result,
                        &failure)) {
                return false;
            }
            const EngineResult& r = vectors.result;
            auto data = std::make_shared<DataSet>();
            data->set(abi::kRows, r.rows);
            data->set(abi::kDim, r.dim);
            size_t bytes = size_t(r.rows * r.dim) * sizeof(float);
            data->set(
                    abi::kTensor,
                    static_cast<const void*>(copy_of(
                            reinterpret_cast<const char*>(r.tensor), bytes)));
            answer.value = std::move(data);
            count(Counter::vector_calls);
            count(Counter::vectors, uint64_t(rows));
            return true;
        });
        if (!done) {
            return refused<DataSetPtr>(failure);
        }
        return answer;
    }

    bool HasRawData(const std::string& metric) const override {
        return engine_has_raw_data(engine_, metric.c_str());
    }

    Expected<DataSetPtr> GetIndexMeta(const Config&) const override {
        EngineFailure failure;
        set_failure(&failure, Status::not_implemented, "SCANN: no index meta");
        return refused<DataSetPtr>(failure);
    }

    Status Serialize(BinarySet& set) const override {
        EngineFailure failure{};
        bool done = guarded(&failure, [&] {
            auto blob = std::make_shared<Result>();
            if (!engine_serialize(engine_, &blob->result, &failure)) {
                return false;
            }
            auto binary = std::make_shared<abi::Binary>();
            binary->size = int64_t(blob->result.byte_count);
            binary->data = std::shared_ptr<uint8_t[]>(blob, blob->result.bytes);
            set[kTypeName] = std::move(binary);
            count(Counter::serializes);
            count(Counter::blob_bytes, blob->result.byte_count);
            return true;
        });
        return done ? Status::success : logged("saving", failure);
    }

    Status Deserialize(const BinarySet& set, const Config&) override {
        return load([&](EngineFailure* failure) {
            auto found = set.find(kTypeName);
            if (found == set.end() || found->second == nullptr ||
                found->second->data == nullptr || found->second->size < 0) {
                set_failure(
                        failure,
                        Status::invalid_binary_set,
                        "not a blob of SCANN: none of that name");
                return false;
            }
            return engine_deserialize(
                    engine_,
                    found->second->data.get(),
                    size_t(found->second->size),
                    failure);
        });
    }

    Status DeserializeFromFile(const std::string& path, const Config& config)
            override {
        return load([&](EngineFailure* failure) {
            NodeSettings settings(config);
            return engine_open(engine_, path.c_str(), settings.view(), failure);
        });
    }

    std::unique_ptr<abi::BaseConfig> CreateConfig() const override {
        return std::make_unique<NodeConfig>(engine_dim(engine_) == 0);
    }
    int64_t Dim() const override {
        return engine_dim(engine_);
    }
    int64_t Size() const override {
        return engine_bytes(engine_);
    }
    int64_t Count() const override {
        return engine_count(engine_);
    }
    std::string Type() const override {
        return kTypeName;
    }

 private:
    /// work() -> whether it succeeded; what it throws becomes the failure
    template <class Work>
    static bool guarded(EngineFailure* failure, Work&& work) noexcept {
        try {
            return work();
        } catch (const std::bad_alloc&) {
            set_failure(failure, Status::malloc_error, "out of memory");
        } catch (const std::exception& error) {
            set_failure(failure, Status::invalid_args, error.what());
        } catch (...) {
            set_failure(failure, Status::invalid_args, "unknown exception");
        }
        return false;
    }

    /// The host does not report it to its user.
    static Status logged(const char* what, const EngineFailure& failure) {
        log_line("%s failed: %s", what, failure.text);
        return status_of(failure);
    }

    Status build(BuildStep step, const DataSet& rows, const Config& config) {
        TimeCount time(Counter::build_ns);
        EngineFailure failure{};
        EngineRows given{};
        bool done = guarded(&failure, [&] {
            given = rows_of(rows);
            NodeSettings settings(config);
            return engine_build(
                    engine_, step, given, settings.view(), &failure);
        });
        if (!done) {
            count(Counter::build_failures);
            return logged("build", failure);
        }
        if (step != BuildStep::Train) {
            count(Counter::builds);
            count(Counter::build_rows, uint64_t(given.rows));
        }
        return Status::success;
    }

    template <class Work>
    Status load(Work&& work) {
        TimeCount time(Counter::load_ns);
        EngineFailure failure{};
        if (!guarded(&failure, [&] { return work(&failure); })) {
            count(Counter::load_failures);
            return logged("load", failure);
        }
        count(Counter::loads);
        count(Counter::load_rows, uint64_t(engine_count(engine_)));
        return Status::success;
    }

    template <class EngineSearch>
    Expected<DataSetPtr> search_with(
            EngineSearch&& search,
            const DataSet& queries,
            const Config& config,
            const BitsetView& bitset,
            int64_t* nq) const {
        EngineFailure failure{};
        Expected<DataSetPtr> answer;
        bool done = guarded(&failure, [&] {
            NodeSettings settings(config);
            EngineRows given = rows_of(queries);
            *nq = given.rows;
            EngineFilter filter = filter_of(bitset, engine_count(engine_));
            Result hits;
            if (!search(engine_,
                        given,
                        settings.view(),
                        filter,
                        &hits.result,
                        &failure)) {
                return false;
            }
            answer.value = data_of(hits.result);
            if (filter.bits != nullptr) {
                count(Counter::filtered);
            }
            return true;
        });
        if (!done) {
            return refused<DataSetPtr>(failure);
        }
        return answer;
    }

    static DataSetPtr data_of(const EngineResult& r) {
        auto data = std::make_shared<DataSet>();
        size_t hits =
                r.lims != nullptr ? r.lims[r.rows] : size_t(r.rows * r.dim);
        data->set(abi::kRows, r.rows);
        data->set(abi::kIds, copy_of(r.ids, hits));
        data->set(abi::kDistance, copy_of(r.distance, hits));
        if (r.lims != nullptr) {
            data->set(abi::kLims, copy_of(r.lims, size_t(r.rows) + 1));
        } else {
            data->set(abi::kDim, r.dim);
        }
        return data;
    }

    EngineNode* engine_;
};

} // namespace

abi::Index create_node(const int32_t& version, const abi::Object&) noexcept {
    // where not even a node can be made, this one answers, and stays
    static Node without_memory(0, nullptr);
    EngineNode* engine = engine_create();
    Node* node = engine == nullptr ? nullptr
                                   : new (std::nothrow) Node(version, engine);
    if (node != nullptr) {
        return abi::Index(node);
    }
    if (engine != nullptr) {
        engine_destroy(engine);
    }
    without_memory.take();
    return abi::Index(&without_memory);
}

} // namespace knowhere_plugin::milvus23

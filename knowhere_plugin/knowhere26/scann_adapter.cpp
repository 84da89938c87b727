/*
 * "SCANN" in Knowhere 2.6 and 3.0 (Milvus 2.6 and newer): our node behind the
 * host's own headers, those of -DKNOWHERE_ROOT. Preloaded, its registration
 * takes the place of the host's.
 *
 * In: the host's DataSet, Config, BitsetView. Out: our node's results as its
 * DataSet, ids mapped back to those that the host shows.
 */

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "knowhere/index/index_factory.h"

#include <knowhere_plugin/index_factory.h>
#include <knowhere_plugin/knowhere26/host_threads.h>
#include <knowhere_plugin/knowhere26/plugin_config.h>

namespace knowhere {

namespace {

using knowhere_plugin::knowhere26::not_cancelled;
using knowhere_plugin::knowhere26::PluginConfig;
using knowhere_plugin::knowhere26::QuerySlice;
using knowhere_plugin::knowhere26::search_slices;
namespace plugin = knowhere_plugin;

/// The numbers of our codes are the host's.
Status status_of(const plugin::Status& status) {
    if (!status.ok()) {
        LOG_KNOWHERE_ERROR_ << "SCANN: " << status.message;
    }
    return static_cast<Status>(int(status.code));
}

template <class T>
expected<T> error_of(const plugin::Status& status) {
    return expected<T>::Err(status_of(status), status.message);
}

plugin::DataSet rows_of(const DataSet& set) {
    return {set.GetRows(),
            set.GetDim(),
            static_cast<const float*>(set.GetTensor())};
}

plugin::DataSet rows_of(const DataSet& set, const QuerySlice& slice) {
    plugin::DataSet rows = rows_of(set);
    rows.tensor += slice.begin * rows.dim;
    rows.rows = slice.end - slice.begin;
    return rows;
}

template <class T>
std::unique_ptr<T[]> copy_of(const T* values, size_t n) {
    std::unique_ptr<T[]> copy(new T[n]);
    if (n > 0) {
        std::memcpy(copy.get(), values, n * sizeof(T));
    }
    return copy;
}

/// The host's bits by our row numbers; copied only if it numbers otherwise.
class Bits {
 public:
    Bits(const BitsetView& bitset, int64_t rows) {
        if (bitset.empty()) {
            return;
        }
        if (!bitset.has_out_ids() && bitset.id_offset() == 0) {
            view_ = {bitset.data(), bitset.num_bits()};
            return;
        }
        copy_.resize((rows + 7) / 8);
        for (int64_t row = 0; row < rows; row++) {
            copy_[row / 8] |= uint8_t(bitset.test(row) << row % 8);
        }
        view_ = {copy_.data(), size_t(rows)};
    }

    const plugin::BitsetView& view() const {
        return view_;
    }

 private:
    std::vector<uint8_t> copy_;
    plugin::BitsetView view_;
};

class PluginIterator : public IndexNode::iterator {
 public:
    /// @param ids  borrowed; nullptr: rows are shown by our numbers
    PluginIterator(std::unique_ptr<plugin::Iterator> rows, const IdMap* ids)
            : rows_(std::move(rows)), ids_(ids) {}

    expected<std::pair<int64_t, float>> Next() override {
        auto hit = rows_->Next();
        if (!hit.ok()) {
            return error_of<std::pair<int64_t, float>>(hit.status());
        }
        auto [id, distance] = hit.value();
        return std::make_pair(
                ids_ == nullptr ? id : ids_->MapInToOut(id), distance);
    }

    expected<bool> HasNext() override {
        auto more = rows_->HasNext();
        if (!more.ok()) {
            return error_of<bool>(more.status());
        }
        return bool(more.value());
    }

 private:
    std::unique_ptr<plugin::Iterator> rows_;
    const IdMap* ids_;
};

plugin::NodePtr make_node() {
    return plugin::IndexFactory::Instance().Create("SCANN").value();
}

template <typename DataType>
class ScannPluginNode : public IndexNode {
 public:
    ScannPluginNode(const int32_t& version, const Object&)
            : IndexNode(version), node_(make_node()) {}

    Status Build(const DataSetPtr dataset, std::shared_ptr<Config> cfg, bool)
            override {
        keeps_rows_ = config(*cfg).flag("with_raw_data");
        return status_of(
                node_->Build(rows_of(*dataset), config(*cfg).values(TRAIN)));
    }

    Status Train(const DataSetPtr dataset, std::shared_ptr<Config> cfg, bool)
            override {
        keeps_rows_ = config(*cfg).flag("with_raw_data");
        return status_of(
                node_->Train(rows_of(*dataset), config(*cfg).values(TRAIN)));
    }

    Status Add(const DataSetPtr dataset, std::shared_ptr<Config> cfg, bool)
            override {
        return status_of(
                node_->Add(rows_of(*dataset), config(*cfg).values(TRAIN)));
    }

    expected<DataSetPtr> Search(
            const DataSetPtr dataset,
            std::unique_ptr<Config> cfg,
            const BitsetView& bitset,
            milvus::OpContext* context) const override {
        const Bits bits(bitset, Count());
        const plugin::Config values = config(*cfg).values(SEARCH);
        auto found = search_slices(
                dataset->GetRows(), context, [&](const QuerySlice& slice) {
                    return node_->Search(
                            rows_of(*dataset, slice), values, bits.view());
                });
        if (!found.ok()) {
            return error_of<DataSetPtr>(found.status());
        }
        const int64_t k = found.value().front().dim;
        const auto n = size_t(dataset->GetRows() * k);
        auto ids = std::make_unique<int64_t[]>(n);
        auto distances = std::make_unique<float[]>(n);
        size_t at = 0;
        for (const plugin::DataSet& part : found.value()) {
            const auto hits = size_t(part.rows * part.dim);
            std::copy_n(part.ids, hits, ids.get() + at);
            std::copy_n(part.distance, hits, distances.get() + at);
            at += hits;
        }
        auto result = GenResultDataSet(
                dataset->GetRows(), k, std::move(ids), std::move(distances));
        MapSearchResultIdsToOutIds(result);
        return result;
    }

    expected<DataSetPtr> RangeSearch(
            const DataSetPtr dataset,
            std::unique_ptr<Config> cfg,
            const BitsetView& bitset,
            milvus::OpContext* context) const override {
        const Bits bits(bitset, Count());
        const plugin::Config values = config(*cfg).values(RANGE_SEARCH);
        auto found = search_slices(
                dataset->GetRows(), context, [&](const QuerySlice& slice) {
                    return node_->RangeSearch(
                            rows_of(*dataset, slice), values, bits.view());
                });
        if (!found.ok()) {
            return error_of<DataSetPtr>(found.status());
        }
        size_t n = 0;
        for (const plugin::DataSet& part : found.value()) {
            n += part.lims[part.rows];
        }
        RangeSearchResult all{
                std::make_unique<float[]>(n),
                std::make_unique<int64_t[]>(n),
                std::make_unique<size_t[]>(size_t(dataset->GetRows()) + 1)};
        size_t at = 0;
        size_t* end = all.lims.get() + 1; // all.lims[0] is 0
        for (const plugin::DataSet& part : found.value()) {
            const size_t hits = part.lims[part.rows];
            std::copy_n(part.ids, hits, all.labels.get() + at);
            std::copy_n(part.distance, hits, all.distances.get() + at);
            for (int64_t q = 1; q <= part.rows; q++) {
                *end++ = at + part.lims[q];
            }
            at += hits;
        }
        auto result = GenResultDataSet(dataset->GetRows(), std::move(all));
        MapSearchResultIdsToOutIds(result);
        return result;
    }

    expected<std::vector<IteratorPtr>> AnnIterator(
            const DataSetPtr dataset,
            std::unique_ptr<Config> cfg,
            const BitsetView& bitset,
            bool,
            milvus::OpContext* context) const override {
        if (auto status = not_cancelled(context); !status.ok()) {
            return error_of<std::vector<IteratorPtr>>(status);
        }
        Bits bits(bitset, Count());
        auto made = node_->AnnIterator(
                rows_of(*dataset), config(*cfg).values(ITERATOR), bits.view());
        if (!made.ok()) {
            return error_of<std::vector<IteratorPtr>>(made.status());
        }
        std::vector<IteratorPtr> iterators;
        for (auto& rows : made.value()) {
            iterators.push_back(std::make_shared<PluginIterator>(
                    std::move(rows), SearchResultIdMap(GetIdMap())));
        }
        return iterators;
    }

    expected<DataSetPtr> GetVectorByIds(
            const DataSetPtr dataset,
            milvus::OpContext* context) const override {
        std::vector<int64_t> rows;
        Status status =
                CompactOutToIn(dataset->GetIds(), dataset->GetRows(), rows);
        if (status != Status::success) {
            return expected<DataSetPtr>::Err(status, "SCANN: unknown ids");
        }
        return GetVectorByStorageIds(
                GenIdsDataSet(int64_t(rows.size()), rows.data()), context);
    }

    bool HasRawData(const std::string& metric) const override {
        return keeps_rows_ && node_->HasRawData(metric);
    }
    /** What a loaded index takes: the file's bytes, in memory or mapped; copies of
     * centroids, codebook and rotation; where each row is, once rows are asked
     * for; few rows a second time. */
    static expected<Resource> StaticEstimateLoadResource(
            const uint64_t file_size,
            const int64_t rows,
            const int64_t dim,
            const BaseConfig& cfg,
            const IndexVersion&) {
        constexpr uint64_t kFewRows = 2048;
        const uint64_t row_bytes = uint64_t(dim) * sizeof(float);
        const uint64_t lists = uint64_t(config(cfg).integer("nlist"));
        const uint64_t few = uint64_t(rows) <= kFewRows ? uint64_t(rows) : 0;
        uint64_t beside = (2 * lists + few + uint64_t(dim)) * row_bytes +
                          uint64_t(rows) * sizeof(uint64_t);
        beside = std::min(beside, file_size);
        const bool mapped = cfg.enable_mmap.value_or(false);
        return Resource{
                .memoryCost = beside + (mapped ? 0 : file_size),
                .diskCost = mapped ? file_size : 0};
    }
    static bool StaticHasRawData(const BaseConfig& cfg, const IndexVersion&) {
        return config(cfg).flag("with_raw_data");
    }

    expected<DataSetPtr> GetIndexMeta(std::unique_ptr<Config>) const override {
        return expected<DataSetPtr>::Err(
                Status::not_implemented, "SCANN: no index meta");
    }

    Status Serialize(BinarySet& set) const override {
        auto blob = node_->Serialize();
        if (!blob.ok()) {
            return status_of(blob.status());
        }
        size_t size = blob.value().size();
        std::shared_ptr<uint8_t[]> bytes = copy_of(blob.value().data(), size);
        set.Append(Type(), bytes, int64_t(size));
        return Status::success;
    }

    Status Deserialize(const BinarySet& set, std::shared_ptr<Config> cfg)
            override {
        auto blob = set.GetByName(Type());
        if (blob == nullptr || blob->data == nullptr || blob->size < 0) {
            LOG_KNOWHERE_ERROR_ << "SCANN: no blob of that name";
            return Status::invalid_binary_set;
        }
        take_flags(cfg);
        return status_of(
                node_->Deserialize({blob->data.get(), size_t(blob->size)}));
    }

    Status DeserializeFromFile(
            const std::string& path,
            std::shared_ptr<Config> cfg) override {
        take_flags(cfg);
        bool mmap = cfg != nullptr && config(*cfg).enable_mmap.value_or(false);
        return status_of(node_->DeserializeFromFile(
                path, {{"enable_mmap", mmap ? "true" : "false"}}));
    }

    static std::unique_ptr<BaseConfig> StaticCreateConfig() {
        static const plugin::NodePtr node = make_node();
        return std::make_unique<PluginConfig>(node);
    }
    std::unique_ptr<BaseConfig> CreateConfig() const override {
        return StaticCreateConfig();
    }

    int64_t Dim() const override {
        return node_->Dim();
    }
    int64_t Size() const override {
        return node_->Size();
    }
    int64_t Count() const override {
        return node_->Count();
    }
    std::string Type() const override {
        return "SCANN";
    }

 protected:
    expected<DataSetPtr> GetVectorByStorageIds(
            const DataSetPtr dataset,
            milvus::OpContext*) const override {
        plugin::DataSet ids;
        ids.rows = dataset->GetRows();
        ids.ids = dataset->GetIds();
        if (ids.rows == 0) {
            return GenResultDataSet(0, Dim(), nullptr);
        }
        auto got = node_->GetVectorByIds(ids);
        if (!got.ok()) {
            return error_of<DataSetPtr>(got.status());
        }
        const plugin::DataSet& rows = got.value();
        return GenResultDataSet(
                rows.rows,
                rows.dim,
                copy_of(rows.tensor, size_t(rows.rows * rows.dim)));
    }

 private:
    /// Every config that reaches us is one that CreateConfig() made.
    static const PluginConfig& config(const knowhere::Config& cfg) {
        return static_cast<const PluginConfig&>(cfg);
    }

    void take_flags(const std::shared_ptr<Config>& cfg) {
        keeps_rows_ = cfg == nullptr || config(*cfg).flag("with_raw_data");
    }

    plugin::NodePtr node_;
    /// what was asked for; few rows are kept raw whatever was asked
    bool keeps_rows_ = true;
};

} // namespace

KNOWHERE_MOCK_REGISTER_DENSE_FLOAT_ALL_GLOBAL(
        SCANN,
        ScannPluginNode,
        knowhere::feature::MMAP)
KNOWHERE_MOCK_REGISTER_DENSE_INT_GLOBAL(
        SCANN,
        ScannPluginNode,
        knowhere::feature::MMAP)

} // namespace knowhere

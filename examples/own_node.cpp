/*
 * A node from outside: a module that IndexFactory::Load() opens. It needs the
 * header only, no symbol of the library.
 *
 * "ORIGIN" finds nothing; it shows what a node must say.
 */

#include <knowhere_plugin/index_factory.h>

using namespace knowhere_plugin;

namespace {

Status refused(const char* what) {
    return {StatusCode::not_implemented, std::string("ORIGIN: no ") + what};
}

class OriginNode : public IndexNode {
 public:
    Status Build(const DataSet& rows, const Config&) noexcept override {
        dim_ = rows.dim;
        rows_ = rows.rows;
        return {};
    }
    Status Train(const DataSet&, const Config&) noexcept override {
        return {};
    }
    Status Add(const DataSet& rows, const Config& config) noexcept override {
        return Build(rows, config);
    }
    Expected<DataSet> Search(
            const DataSet& queries,
            const Config&,
            const BitsetView&) const noexcept override {
        DataSet none;
        none.rows = queries.rows;
        return none;
    }
    Expected<DataSet> RangeSearch(
            const DataSet&,
            const Config&,
            const BitsetView&) const noexcept override {
        return refused("range search");
    }
    Expected<Iterators> AnnIterator(
            const DataSet&,
            const Config&,
            const BitsetView&) const noexcept override {
        return refused("iterator");
    }
    Expected<DataSet> GetVectorByIds(const DataSet&) const noexcept override {
        return refused("rows");
    }
    bool HasRawData(const std::string&) const noexcept override {
        return false;
    }
    Expected<Blob> Serialize() const noexcept override {
        return Blob{};
    }
    Status Deserialize(std::span<const uint8_t>, const Config&) noexcept
            override {
        return refused("blobs");
    }
    Status DeserializeFromFile(const std::string&, const Config&) noexcept
            override {
        return refused("files");
    }
    int64_t Dim() const noexcept override {
        return dim_;
    }
    int64_t Size() const noexcept override {
        return 0;
    }
    int64_t Count() const noexcept override {
        return rows_;
    }
    const char* Type() const noexcept override {
        return "ORIGIN";
    }
    std::span<const Parameter> Schema() const noexcept override {
        return {};
    }

 private:
    int64_t dim_ = 0;
    int64_t rows_ = 0;
};

} // namespace

extern "C" KNOWHERE_PLUGIN_API void knowhere_plugin_register(
        IndexFactory* factory) {
    factory->Register(
            "ORIGIN",
            [](int32_t) { return std::make_shared<OriginNode>(); },
            kFloat32);
}

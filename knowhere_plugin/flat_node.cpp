/* "FLAT": every row, exact distances. */

#include <faiss/IndexFlat.h>

#include <knowhere_plugin/exact_search.h>
#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

namespace {

class FlatNode : public FaissNode {
 public:
    FlatNode() : FaissNode("FLAT", schema()) {}

 protected:
    static const std::vector<Parameter>& schema() {
        static const std::vector<Parameter> rows = with_common({});
        return rows;
    }

    std::unique_ptr<faiss::Index> train_index(
            int64_t,
            int64_t d,
            const float*,
            Metric metric,
            const Parameters&) const override {
        return std::make_unique<faiss::IndexFlat>(d, faiss_metric(metric));
    }

    void search_index(const faiss::Index& index, const SearchRequest& request)
            const override {
        exact_search(static_cast<const faiss::IndexFlat&>(index), request);
    }

    Hits search_range(const faiss::Index& index, const RangeRequest& request)
            const override {
        return exact_range(
                static_cast<const faiss::IndexFlat&>(index), request);
    }

    bool keeps_raw_rows(const faiss::Index*, Metric metric) const override {
        return metric != Metric::COSINE; // scaled rows are not the input
    }
};

} // namespace

void register_flat_node(IndexFactory& factory) {
    factory.Register(
            "FLAT",
            [](int32_t) { return std::make_shared<FlatNode>(); },
            kFloat32 | kNoTrain | kKnn);
}

} // namespace knowhere_plugin

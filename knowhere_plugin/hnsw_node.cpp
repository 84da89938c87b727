/* "HNSW": a graph over the rows. */

#include <algorithm>

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>

#include <knowhere_plugin/exact_search.h>
#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/graph_search.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

namespace {

/// Knowhere's rules: all rows are scanned if less than 7 % pass the filter, or
/// if k is at least half of those that pass. A search in the graph would visit
/// most rows, too.
constexpr double kScannedShare = 0.07;
constexpr int64_t kScannedMultiple = 2;

constexpr int64_t kDefaultEf = 64;

class HnswNode : public FaissNode {
 public:
    HnswNode() : FaissNode("HNSW", schema()) {}

 protected:
    static const std::vector<Parameter>& schema() {
        static const std::vector<Parameter> rows = with_common({
                integer_parameter("M", "30", 2, 2048, kBuild, "links a row"),
                integer_parameter(
                        "efConstruction",
                        "360",
                        1,
                        2147483647,
                        kBuild,
                        "rows looked at to place one"),
                integer_parameter(
                        "ef",
                        "",
                        1,
                        2147483647,
                        kSearch | kRange,
                        "rows kept while searching, at least k; default: "
                        "max(k, 64)"),
        });
        return rows;
    }

    std::unique_ptr<faiss::Index> train_index(
            int64_t,
            int64_t d,
            const float*,
            Metric metric,
            const Parameters& parameters) const override {
        auto index = std::make_unique<faiss::IndexHNSWFlat>(
                d, int(parameters.integer("M")), faiss_metric(metric));
        index->hnsw.efConstruction = int(parameters.integer("efConstruction"));
        return index;
    }

    void check_search(const Parameters& parameters, int64_t k) const override {
        if (parameters.given("ef") && parameters.integer("ef") < k) {
            throw Fault(
                    StatusCode::out_of_range_in_json,
                    "ef = " + std::to_string(parameters.integer("ef")) +
                            " is below k = " + std::to_string(k) +
                            " (allowed: >= k)");
        }
    }

    void search_index(const faiss::Index& index, const SearchRequest& request)
            const override {
        const faiss::IndexHNSW& hnsw = graph(index);
        const int64_t k = request.k;
        const size_t ef =
                ef_of(request.parameters, request.filter, request.scope, k);
        if (scans_all(request.filter, request.scope, k)) {
            exact_search(rows(hnsw), request);
            return;
        }
        GraphSearch search(hnsw);
        float sign = index.metric_type == faiss::METRIC_L2 ? 1.f : -1.f;
        for (int64_t q = 0; q < request.n; q++) {
            auto found = search.nearest(
                    request.query(q), ef, request.filter.selector());
            if (int64_t(found.size()) < k) { // not all rows can be reached
                exact_search(rows(hnsw), request.part(q, 1));
                continue;
            }
            for (int64_t i = 0; i < k; i++) {
                request.distances[q * k + i] = sign * found[i].first;
                request.labels[q * k + i] = found[i].second;
            }
        }
    }

    /// Searches for ever more rows, until the worst is outside of the range.
    Hits search_range(const faiss::Index& index, const RangeRequest& request)
            const override {
        const faiss::IndexHNSW& hnsw = graph(index);
        const RowFilter& filter = request.filter;
        GraphSearch search(hnsw);
        float sign = index.metric_type == faiss::METRIC_L2 ? 1.f : -1.f;
        const float limit = sign * request.radius;
        for (size_t ef = ef_of(request.parameters, filter, request.scope, 1);
             !scans_all(filter, request.scope, int64_t(ef));
             ef *= 4) {
            auto found = search.nearest(request.query, ef, filter.selector());
            if (found.size() < ef) {
                break;
            }
            if (found.back().first < limit) {
                continue;
            }
            Hits hits;
            for (auto [distance, id] : found) {
                if (distance < limit) {
                    hits.emplace_back(id, sign * distance);
                }
            }
            return hits;
        }
        return exact_range(rows(hnsw), request);
    }

    bool keeps_raw_rows(const faiss::Index*, Metric metric) const override {
        return metric != Metric::COSINE;
    }

 private:
    static const faiss::IndexHNSW& graph(const faiss::Index& index) {
        return static_cast<const faiss::IndexHNSW&>(index);
    }
    static const faiss::IndexFlat& rows(const faiss::IndexHNSW& index) {
        return static_cast<const faiss::IndexFlat&>(*index.storage);
    }
    static bool
    scans_all(const RowFilter& filter, SearchScope scope, int64_t k) {
        return scope.complete || kScannedMultiple * k >= filter.passing() ||
               double(filter.passing()) < kScannedShare * double(filter.rows());
    }
    static size_t ef_of(
            const Parameters& parameters,
            const RowFilter& filter,
            SearchScope scope,
            int64_t k) {
        int64_t ef =
                parameters.given("ef") ? parameters.integer("ef") : kDefaultEf;
        ef = std::min(ef * scope.factor, filter.passing());
        return size_t(std::max(ef, k));
    }
};

} // namespace

void register_hnsw_node(IndexFactory& factory) {
    factory.Register(
            "HNSW",
            [](int32_t) { return std::make_shared<HnswNode>(); },
            kFloat32);
}

} // namespace knowhere_plugin

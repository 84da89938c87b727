/*
 * FLAT, IVF_FLAT, IVF_PQ and HNSW from the same Faiss, with Knowhere's
 * parameters.
 */

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIVFPQ.h>

#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

namespace {

faiss::MetricType faiss_metric(Metric metric) {
    return metric == Metric::L2 ? faiss::METRIC_L2
                                : faiss::METRIC_INNER_PRODUCT;
}

// ------------------------------------------------------------------ FLAT

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

    std::unique_ptr<faiss::SearchParameters> search_parameters(
            const faiss::Index&,
            const Parameters&,
            int64_t,
            Reach) const override {
        return std::make_unique<faiss::SearchParameters>();
    }

    bool keeps_rows(const faiss::Index*, Metric metric) const override {
        return metric != Metric::COSINE; // scaled rows are not the input
    }
};

// ------------------------------------------------------------------- IVF

/// IVF_FLAT, IVF_PQ: lists, probes.
class IvfNode : public FaissNode {
 public:
    using FaissNode::FaissNode;

 protected:
    static std::vector<Parameter> with_lists(std::vector<Parameter> own) {
        own.insert(
                own.begin(),
                {integer_parameter(
                         "nlist",
                         "128",
                         1,
                         65536,
                         kBuild,
                         "lists; lowered so that each has 39 rows"),
                 integer_parameter(
                         "nprobe",
                         "8",
                         1,
                         65536,
                         kSearch | kRange,
                         "lists visited; all if there are fewer")});
        return with_common(std::move(own));
    }

    std::unique_ptr<faiss::SearchParameters> search_parameters(
            const faiss::Index& index,
            const Parameters& parameters,
            int64_t,
            Reach reach) const override {
        auto made = std::make_unique<faiss::SearchParametersIVF>();
        size_t nlist = static_cast<const faiss::IndexIVF&>(index).nlist;
        made->nprobe =
                reach == Reach::Complete
                        ? nlist
                        : std::min(size_t(parameters.integer("nprobe")), nlist);
        return made;
    }

    /// The index owns its quantizer.
    template <class Index, class... Args>
    static std::unique_ptr<Index>
    make_ivf(int64_t d, int64_t nlist, Metric metric, Args... args) {
        auto quantizer =
                std::make_unique<faiss::IndexFlat>(d, faiss_metric(metric));
        auto index = std::make_unique<Index>(
                quantizer.get(), d, nlist, args..., faiss_metric(metric));
        quantizer.release();
        index->own_fields = true;
        return index;
    }
};

class IvfFlatNode : public IvfNode {
 public:
    IvfFlatNode() : IvfNode("IVF_FLAT", schema()) {}

 protected:
    static const std::vector<Parameter>& schema() {
        static const std::vector<Parameter> rows = with_lists({});
        return rows;
    }

    std::unique_ptr<faiss::Index> train_index(
            int64_t n,
            int64_t d,
            const float* x,
            Metric metric,
            const Parameters& parameters) const override {
        auto index = make_ivf<faiss::IndexIVFFlat>(
                d, lists_for(parameters.integer("nlist"), n), metric);
        index->train(n, x);
        return index;
    }

    bool keeps_rows(const faiss::Index*, Metric metric) const override {
        return metric != Metric::COSINE;
    }
};

class IvfPqNode : public IvfNode {
 public:
    IvfPqNode() : IvfNode("IVF_PQ", schema()) {}

 protected:
    static const std::vector<Parameter>& schema() {
        static const std::vector<Parameter> rows = with_lists({
                integer_parameter(
                        "m", "32", 1, 65536, kBuild, "codes; must divide dim"),
                integer_parameter(
                        "nbits",
                        "8",
                        1,
                        16,
                        kBuild,
                        "bits of a code; lowered if there are fewer rows"),
        });
        return rows;
    }

    std::unique_ptr<faiss::Index> train_index(
            int64_t n,
            int64_t d,
            const float* x,
            Metric metric,
            const Parameters& parameters) const override {
        int64_t m = parameters.integer("m");
        if (d % m != 0) {
            throw Fault(
                    StatusCode::out_of_range_in_json,
                    "m = " + std::to_string(m) +
                            " does not divide dim = " + std::to_string(d));
        }
        int64_t nbits = parameters.integer("nbits");
        while (nbits > 1 && (int64_t(1) << nbits) > n) {
            nbits--;
        }
        std::vector<float> twice; // a codebook has two entries at least
        if (n == 1) {
            twice.insert(twice.end(), x, x + d);
            twice.insert(twice.end(), x, x + d);
            x = twice.data();
            n = 2;
        }
        auto index = make_ivf<faiss::IndexIVFPQ>(
                d, lists_for(parameters.integer("nlist"), n), metric, m, nbits);
        index->train(n, x);
        return index;
    }

    bool keeps_rows(const faiss::Index*, Metric) const override {
        return false;
    }
};

// ------------------------------------------------------------------ HNSW

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
                        kSearch,
                        "rows looked at, at least k; default: max(k, 64)"),
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

    std::unique_ptr<faiss::SearchParameters> search_parameters(
            const faiss::Index&,
            const Parameters& parameters,
            int64_t k,
            Reach) const override {
        auto made = std::make_unique<faiss::SearchParametersHNSW>();
        int64_t wanted = parameters.given("ef") ? parameters.integer("ef") : 64;
        made->efSearch = int(std::max(wanted, k));
        return made;
    }

    /// A graph may not reach every row, and Faiss 1.7.3 ignores selectors in
    /// it: both are served by the rows themselves.
    const faiss::Index& searched(
            const faiss::Index& index,
            Reach reach,
            bool filtered) const override {
        return reach == Reach::Complete || filtered
                       ? *static_cast<const faiss::IndexHNSW&>(index).storage
                       : index;
    }

    Reach range_reach() const override {
        return Reach::Complete;
    }

    bool keeps_rows(const faiss::Index*, Metric metric) const override {
        return metric != Metric::COSINE;
    }
};

template <class Node>
NodePtr make_node(int32_t) {
    return std::make_shared<Node>();
}

} // namespace

void register_faiss_nodes(IndexFactory& factory) {
    factory.Register("FLAT", make_node<FlatNode>, kFloat32 | kNoTrain | kKnn);
    factory.Register("IVF_FLAT", make_node<IvfFlatNode>, kFloat32);
    factory.Register("IVF_PQ", make_node<IvfPqNode>, kFloat32);
    factory.Register("HNSW", make_node<HnswNode>, kFloat32);
}

} // namespace knowhere_plugin

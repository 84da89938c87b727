/* "IVF_FLAT", "IVF_PQ": Faiss' own, with Knowhere's parameters. */

#include <algorithm>
#include <cstring>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/utils/distances.h>

#include <faiss_ext/memory/parallel.h>
#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

namespace {

/// Lists and probes.
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

    /// For more queries at once Faiss would use BLAS, which has threads of its
    /// own.
    static int64_t batch() {
        return std::max(1, faiss::distance_compute_blas_threshold - 1);
    }

    static faiss::SearchParametersIVF search_parameters(
            const faiss::Index& index,
            const Parameters& parameters,
            SearchScope scope) {
        faiss::SearchParametersIVF made;
        size_t nlist = static_cast<const faiss::IndexIVF&>(index).nlist;
        size_t nprobe = size_t(parameters.integer("nprobe") * scope.factor);
        made.nprobe = scope.complete ? nlist : std::min(nprobe, nlist);
        return made;
    }

    void search_index(const faiss::Index& index, const SearchRequest& request)
            const override {
        auto made = search_parameters(index, request.parameters, request.scope);
        search_faiss(index, made, batch(), request);
    }

    Hits search_range(const faiss::Index& index, const RangeRequest& request)
            const override {
        auto made = search_parameters(index, request.parameters, request.scope);
        return search_faiss_range(index, made, request);
    }

    /** As add() of Faiss, in whose OpenMP regions the process ends where memory
     * runs out. */
    void add_to_index(faiss::Index& to, int64_t n, const float* x)
            const override {
        constexpr size_t kEncodeSlice = 256; // rows of a thread
        auto& index = static_cast<faiss::IndexIVF&>(to);
        std::vector<int64_t> lists(n);
        index.quantizer->assign(n, x, lists.data());
        std::vector<uint8_t> codes(n * index.code_size);
        faiss_ext::parallel_slices(
                n, kEncodeSlice, [&](size_t begin, size_t end) {
                    for (size_t i = begin; i < end; i++) {
                        if (lists[i] >= 0) {
                            encode(index,
                                   lists[i],
                                   x + i * index.d,
                                   &codes[i * index.code_size]);
                        }
                    }
                });
        faiss::InvertedLists& into = *index.invlists;
        std::vector<size_t> sizes(index.nlist);
        for (size_t l = 0; l < index.nlist; l++) {
            sizes[l] = into.list_size(l);
        }
        try {
            for (int64_t i = 0; i < n; i++) {
                if (lists[i] >= 0) {
                    const uint8_t* code = &codes[i * index.code_size];
                    into.add_entry(lists[i], index.ntotal + i, code);
                }
            }
        } catch (...) {
            for (size_t l = 0; l < index.nlist; l++) {
                into.resize(l, sizes[l]);
            }
            throw;
        }
        index.ntotal += n;
    }

    /// @param code  out, code_size bytes
    virtual void encode(
            const faiss::IndexIVF& index,
            int64_t list,
            const float* row,
            uint8_t* code) const = 0;

    /// The index owns its quantizer. Faiss' printed warnings about few training
    /// rows are turned off.
    template <class Index, class... Args>
    static std::unique_ptr<Index>
    make_ivf(int64_t d, int64_t nlist, Metric metric, Args... args) {
        auto quantizer =
                std::make_unique<faiss::IndexFlat>(d, faiss_metric(metric));
        auto index = std::make_unique<Index>(
                quantizer.get(), d, nlist, args..., faiss_metric(metric));
        quantizer.release();
        index->own_fields = true;
        index->cp.min_points_per_centroid = 1;
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

    void encode(
            const faiss::IndexIVF& index,
            int64_t,
            const float* row,
            uint8_t* code) const override {
        std::memcpy(code, row, index.code_size);
    }

    bool keeps_raw_rows(const faiss::Index*, Metric metric) const override {
        return metric != Metric::COSINE; // scaled rows are not the input
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
                    "m = " + std::to_string(m) + " with dim = " +
                            std::to_string(d) + " (allowed: divisors of dim)");
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
        index->pq.cp.min_points_per_centroid = 1;
        index->train(n, x);
        return index;
    }

    void encode(
            const faiss::IndexIVF& index,
            int64_t list,
            const float* row,
            uint8_t* code) const override {
        std::vector<float> residual(row, row + index.d);
        const auto& ivf_pq = static_cast<const faiss::IndexIVFPQ&>(index);
        if (ivf_pq.by_residual) {
            index.quantizer->compute_residual(row, residual.data(), list);
        }
        ivf_pq.pq.compute_code(residual.data(), code);
    }

    bool keeps_raw_rows(const faiss::Index*, Metric) const override {
        return false;
    }
};

template <class Node>
NodePtr make_node(int32_t) {
    return std::make_shared<Node>();
}

} // namespace

void register_ivf_nodes(IndexFactory& factory) {
    factory.Register("IVF_FLAT", make_node<IvfFlatNode>, kFloat32);
    factory.Register("IVF_PQ", make_node<IvfPqNode>, kFloat32);
}

} // namespace knowhere_plugin

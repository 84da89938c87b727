/*
 * "SCANN": the engine's index with Knowhere's parameters.
 */

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/list_bounds.h>

#include <knowhere_plugin/exact_search.h>
#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/node_blob.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

namespace {

using faiss_ext::IndexIVFScaNN;

/// Up to so many rows every search scans all of them and, as raw rows are
/// kept then whatever was asked, is exact.
constexpr int64_t kFewRows = 2048;
/// Knowhere's own, what a search of many rows visits.
constexpr int64_t kUsualProbes = 8;

const std::vector<Parameter>& scann_schema() {
    static const std::vector<Parameter> schema = with_common({
            integer_parameter(
                    "nlist",
                    "128",
                    1,
                    65536,
                    kBuild,
                    "lists; lowered so that each has 39 rows"),
            integer_parameter(
                    "sub_dim",
                    "",
                    1,
                    8,
                    kBuild,
                    "dimensions per 4-bit code; default 2, and 4 where "
                    "soar_lambda is chosen"),
            bool_parameter(
                    "with_raw_data",
                    "true",
                    kBuild,
                    "keep raw rows: exact distances, GetVectorByIds"),
            real_parameter(
                    "eta",
                    "",
                    1,
                    kNoLimit,
                    kBuild,
                    "weight of the parallel error; default: the engine's"),
            real_parameter(
                    "anisotropic_threshold",
                    "",
                    -kNoLimit,
                    kNoLimit,
                    kBuild,
                    "T of the paper; instead of eta"),
            real_parameter(
                    "soar_lambda",
                    "",
                    0,
                    kNoLimit,
                    kBuild,
                    "> 0: each row also gets a code in a second list; default "
                    "1 for raw rows of 128 dimensions and more, else 0"),
            word_parameter(
                    "refine_type",
                    "none",
                    "none|int8|fp16|bf16",
                    kBuild,
                    "codes that rescore candidates before raw rows do"),
            real_parameter(
                    "target_recall",
                    "",
                    0.01,
                    0.999,
                    kBuild,
                    "recall@10 for which nprobe and reorder_k are chosen where "
                    "a search gives none; needs with_raw_data"),
            integer_parameter(
                    "nprobe",
                    "",
                    1,
                    65536,
                    kSearch | kRange,
                    "lists visited, all if there are fewer; default: as "
                    "chosen for target_recall, else 8 or more, up to all of "
                    "few rows; of a range search: all that may hold hits"),
            integer_parameter(
                    "reorder_k",
                    "",
                    1,
                    2147483647,
                    kSearch,
                    "candidates rescored, at least k; default: from k"),
            bool_parameter(
                    "ensure_topk_full",
                    "false",
                    kSearch,
                    "visit further lists for queries that got less than k"),
    });
    return schema;
}

faiss_ext::RefineType refine_type(const std::string& word) {
    return word == "int8"   ? faiss_ext::RefineType::Int8
           : word == "fp16" ? faiss_ext::RefineType::FP16
           : word == "bf16" ? faiss_ext::RefineType::BF16
                            : faiss_ext::RefineType::None;
}

class ScaNNNode : public FaissNode {
 public:
    ScaNNNode() : FaissNode("SCANN", scann_schema()) {}

 protected:
    std::unique_ptr<faiss::Index> train_index(
            int64_t n,
            int64_t d,
            const float* x,
            Metric metric,
            const Parameters& parameters) const override {
        faiss_ext::ScaNNOptions options;
        options.with_raw_data =
                parameters.flag("with_raw_data") || n <= kFewRows;
        bool copies = options.with_raw_data && n > kFewRows &&
                      size_t(d) >= faiss_ext::kManyDimensions;
        options.soar_lambda = parameters.given("soar_lambda")
                                      ? float(parameters.real("soar_lambda"))
                                      : float(copies);
        bool chosen = copies && !parameters.given("soar_lambda");
        options.sub_dim = parameters.given("sub_dim")
                                  ? size_t(parameters.integer("sub_dim"))
                          : chosen ? 4
                                   : 2;
        if (!parameters.given("sub_dim") && !options.with_raw_data) {
            options.M = faiss_ext::codes_in_fours(size_t(d), options.sub_dim);
        }
        options.refine_type = refine_type(parameters.word("refine_type"));
        options.normalize = options.allow_zero = metric == Metric::COSINE;
        if (parameters.given("eta")) {
            options.eta = float(parameters.real("eta"));
        }
        if (parameters.given("target_recall") && !options.with_raw_data) {
            throw Fault(
                    StatusCode::invalid_args,
                    "target_recall = " +
                            std::to_string(parameters.real("target_recall")) +
                            " with with_raw_data = false (allowed: true; "
                            "recall is measured against raw rows)");
        }
        if (parameters.given("anisotropic_threshold")) {
            double threshold = parameters.real("anisotropic_threshold");
            if (parameters.given("eta")) {
                throw Fault(
                        StatusCode::invalid_args,
                        "eta = " + std::to_string(options.eta) +
                                " and anisotropic_threshold = " +
                                std::to_string(threshold) +
                                " (allowed: one of them)");
            }
            options.threshold = float(threshold);
        }
        auto index = std::make_unique<IndexIVFScaNN>(
                size_t(d),
                size_t(lists_for(parameters.integer("nlist"), n)),
                faiss_metric(metric),
                options);
        index->nprobe = 0; // to be found in training, see usual_probes()
        index->train(n, x);
        return index;
    }

    bool tunes(const Parameters& parameters) const override {
        return parameters.given("target_recall");
    }

    void tune(faiss::Index& index, const Parameters& parameters)
            const override {
        if (tunes(parameters) && index.ntotal > kFewRows) {
            static_cast<IndexIVFScaNN&>(index).calibrate(
                    0, nullptr, float(parameters.real("target_recall")));
        }
    }

    void check_search(const Parameters& parameters, int64_t k) const override {
        if (parameters.given("reorder_k") &&
            parameters.integer("reorder_k") < k) {
            throw Fault(
                    StatusCode::out_of_range_in_json,
                    "reorder_k = " +
                            std::to_string(parameters.integer("reorder_k")) +
                            " is below k = " + std::to_string(k) +
                            " (allowed: >= k)");
        }
    }

    /// All queries at once: the engine serves those that share lists together,
    /// without BLAS.
    void search_index(
            const faiss::Index& index,
            const SearchCall& call,
            int64_t n,
            const float* x,
            int64_t k,
            float* distances,
            int64_t* labels) const override {
        const auto& scann = static_cast<const IndexIVFScaNN&>(index);
        if (scann.ntotal <= kFewRows && scann.options.with_raw_data &&
            kept(rows_, scann)
                    ->search(
                            call.filter.selector(),
                            n,
                            x,
                            k,
                            distances,
                            labels)) {
            return;
        }
        auto made = search_parameters(index, call, k);
        search_faiss(
                index,
                made,
                call.filter,
                std::max<int64_t>(n, 1),
                n,
                x,
                k,
                distances,
                labels);
    }

    Hits search_range(
            const faiss::Index& index,
            const SearchCall& call,
            const float* query,
            float radius) const override {
        auto made = search_parameters(index, call, 1);
        if (call.parameters.given("nprobe")) {
            return search_faiss_range(index, made, call.filter, query, radius);
        }
        const auto& scann = static_cast<const IndexIVFScaNN&>(index);
        if (faiss_ext::ListBounds::possible(scann.state())) {
            return search_within_bounds(scann, call, query, radius);
        }
        made.nprobe = scann.nlist;
        return search_faiss_range(index, made, call.filter, query, radius);
    }

    bool fills_up(const Parameters& parameters) const override {
        return parameters.flag("ensure_topk_full") ||
               !parameters.given("nprobe");
    }

    void forget() const override {
        std::lock_guard lock(kept_mutex_);
        bounds_.reset();
        rows_.reset();
    }

    bool normalizes_here() const override {
        return false;
    }

    bool keeps_rows(const faiss::Index* index, Metric) const override {
        return index != nullptr &&
               static_cast<const IndexIVFScaNN*>(index)->options.with_raw_data;
    }

    int64_t bytes_of(const faiss::Index& index) const override {
        return int64_t(static_cast<const IndexIVFScaNN&>(index).memory_usage());
    }

    Blob write(const Held& held) const override {
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(held.index.get(), &writer);
        return std::move(writer.data);
    }

    Held read(std::span<const uint8_t> blob) const override {
        faiss_ext::SpanReader reader(blob);
        return checked(
                [&] { return faiss_ext::read_index(&reader, blob.size()); });
    }

    Held read_file(const std::string& path, bool mmap) const override {
        open_file(path); // what is wrong with the path is no fault of a blob
        auto mode =
                mmap ? faiss_ext::ReadMode::Mmap : faiss_ext::ReadMode::Copy;
        return checked([&] { return faiss_ext::read_index(path, mode); });
    }

 private:
    static faiss_ext::SearchParametersScaNN search_parameters(
            const faiss::Index& index,
            const SearchCall& call,
            int64_t k) {
        const auto& scann = static_cast<const IndexIVFScaNN&>(index);
        const Parameters& parameters = call.parameters;
        faiss_ext::SearchParametersScaNN made;
        size_t nlist = size_t(scann.nlist);
        bool all = call.reach.complete || scann.ntotal <= kFewRows;
        bool calibrated = scann.calibration.k > 0;
        auto reach = faiss_ext::segment_reach(
                size_t(scann.ntotal), nlist, size_t(k), usual_probes(scann));
        size_t lists = parameters.given("nprobe")
                               ? size_t(parameters.integer("nprobe"))
                       : calibrated ? size_t(scann.nprobe)
                                    : reach.nprobe;
        size_t nprobe = std::min(lists, nlist) * size_t(call.reach.factor);
        made.nprobe = all ? nlist : std::min(nprobe, nlist);
        if (all) {
            made.reorder_k = made.refine_k =
                    size_t(std::max<int64_t>(scann.ntotal, k));
        } else if (parameters.given("reorder_k")) {
            size_t wanted =
                    size_t(std::max(parameters.integer("reorder_k"), k));
            // the last step that rescores is the one that is meant
            if (scann.options.with_raw_data) {
                made.reorder_k = wanted;
            } else {
                made.refine_k = wanted;
            }
        } else if (
                scann.options.with_raw_data && !calibrated &&
                !parameters.given("nprobe")) {
            made.reorder_k = reach.reorder_k;
        }
        return made;
    }

    /** kUsualProbes, or more where the lists that come first are small (inner
     * product, rows of very different lengths): training found how many hold as
     * many rows as 1/32 of all lists on average. */
    static size_t usual_probes(const IndexIVFScaNN& index) {
        double average = double(faiss_ext::default_nprobe(index.nlist));
        // a file may hold any number as its default
        double probes = double(std::min(index.nprobe, index.nlist));
        double more = std::max(1.0, probes / average);
        return size_t(std::ceil(kUsualProbes * more));
    }

    Hits search_within_bounds(
            const IndexIVFScaNN& index,
            const SearchCall& call,
            const float* query,
            float radius) const {
        std::vector<int64_t> lists =
                kept(bounds_, index)->within(index.state(), query, radius);
        if (lists.empty()) {
            return {};
        }
        faiss_ext::SearchParametersScaNN made;
        made.nprobe = lists.size();
        made.sel = call.filter.selector();
        // raw rows decide, not the centroids' scores
        std::vector<float> scores(lists.size());
        faiss::RangeSearchResult found(1);
        index.range_search_preassigned(
                1,
                query,
                radius,
                lists.data(),
                scores.data(),
                &found,
                false,
                &made);
        return hits_in(found);
    }

    /// What the first call that needs it makes of the index.
    template <class Made>
    std::shared_ptr<const Made> kept(
            std::shared_ptr<const Made>& made,
            const IndexIVFScaNN& index) const {
        std::lock_guard lock(kept_mutex_);
        if (made == nullptr) {
            made = std::make_shared<Made>(index.state());
        }
        return made;
    }

    template <class Read>
    static Held checked(Read&& read_index) {
        std::unique_ptr<faiss::Index> index;
        try {
            index.reset(read_index());
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& error) {
            throw Fault(
                    StatusCode::invalid_binary_set,
                    "not a blob of SCANN: " + text_of(error));
        }
        auto scann = dynamic_cast<IndexIVFScaNN*>(index.get());
        if (scann == nullptr) {
            throw Fault(
                    StatusCode::invalid_binary_set,
                    "not a blob of SCANN: another kind of index");
        }
        Metric metric = scann->options.normalize ? Metric::COSINE
                        : scann->metric_type == faiss::METRIC_L2 ? Metric::L2
                                                                 : Metric::IP;
        return {std::move(index), metric};
    }

    mutable std::mutex kept_mutex_; ///< of what follows
    mutable std::shared_ptr<const faiss_ext::ListBounds> bounds_;
    mutable std::shared_ptr<const ListRows> rows_;
};

} // namespace

void register_scann_node(IndexFactory& factory) {
    factory.Register(
            "SCANN",
            [](int32_t) { return std::make_shared<ScaNNNode>(); },
            kFloat32 | kMmap);
}

} // namespace knowhere_plugin

/*
 * "SCANN": the engine's index with Knowhere's parameters (scann_parameters.h).
 */

#include <algorithm>
#include <memory>
#include <mutex>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/io/faiss_bytes.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/scann_iterator.h>
#include <faiss_ext/search/list_bounds.h>

#include <knowhere_plugin/exact_search.h>
#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/node_blob.h>
#include <knowhere_plugin/nodes.h>
#include <knowhere_plugin/scann_parameters.h>

namespace knowhere_plugin {

namespace {

using faiss_ext::IndexIVFScaNN;

/// Of one iterator.
class ScaNNPieces : public RowsInPieces {
 public:
    explicit ScaNNPieces(std::unique_ptr<faiss_ext::ScaNNIterator> rows)
            : rows_(std::move(rows)),
              distances_(rows_->batch()),
              labels_(rows_->batch()) {}

    Hits next() override {
        Hits hits;
        hits.reserve(rows_->batch()); // what comes after it cannot fail
        const size_t n = rows_->next(distances_.data(), labels_.data());
        for (size_t i = 0; i < n; i++) {
            hits.emplace_back(labels_[i], distances_[i]);
        }
        return hits;
    }

 private:
    std::unique_ptr<faiss_ext::ScaNNIterator> rows_;
    std::vector<float> distances_;
    std::vector<int64_t> labels_;
};

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
        const faiss_ext::ScaNNOptions options =
                scann_options(n, d, metric, parameters);
        auto index = std::make_unique<IndexIVFScaNN>(
                size_t(d),
                size_t(lists_for(parameters.integer("nlist"), n)),
                faiss_metric(metric),
                options);
        index->nprobe = 0; // found in training: scann_search_parameters()
        index->train(n, x);
        return index;
    }

    bool calibrates(const Parameters& parameters) const override {
        return parameters.given("target_recall");
    }

    void calibrate_index(faiss::Index& index, const Parameters& parameters)
            const override {
        if (calibrates(parameters) && index.ntotal > kExactRows) {
            static_cast<IndexIVFScaNN&>(index).calibrate(
                    0, nullptr, float(parameters.real("target_recall")));
        }
    }

    void check_build(const Parameters& parameters) const override {
        check_scann_build(parameters);
    }
    void check_search(const Parameters& parameters, int64_t k) const override {
        check_scann_search(parameters, k);
    }

    /// All queries at once: the engine serves those that share lists together,
    /// without BLAS.
    void search_index(const faiss::Index& index, const SearchRequest& request)
            const override {
        const auto& scann = static_cast<const IndexIVFScaNN&>(index);
        if (scann.ntotal <= kExactRows && scann.options.with_raw_data &&
            derived(rows_, scann)->search(request)) {
            return;
        }
        auto made = scann_search_parameters(
                facts_of(scann), request.parameters, request.scope, request.k);
        const int64_t batch = std::max<int64_t>(request.n, 1);
        search_faiss(index, made, batch, request);
    }

    std::unique_ptr<RowsInPieces> rows_in_pieces(
            const faiss::Index& index,
            const float* query,
            const Parameters& parameters,
            const RowFilter& filter) const override {
        constexpr auto kPiece = int64_t(RowsInPieces::kMost);
        const auto& scann = static_cast<const IndexIVFScaNN&>(index);
        auto made = scann_search_parameters(
                facts_of(scann),
                parameters,
                parameters.flag("retain_iterator_order") ? kWholeIndex
                                                         : kAsAsked,
                kPiece);
        made.sel = filter.selector();
        return std::make_unique<ScaNNPieces>(
                scann.iterate(query, kPiece, &made));
    }

    Hits search_range(const faiss::Index& index, const RangeRequest& request)
            const override {
        const auto& scann = static_cast<const IndexIVFScaNN&>(index);
        auto made = scann_search_parameters(
                facts_of(scann), request.parameters, request.scope, 1);
        if (request.parameters.given("nprobe")) {
            return search_faiss_range(index, made, request);
        }
        if (faiss_ext::ListBounds::possible(scann.state())) {
            return search_within_bounds(scann, request);
        }
        made.nprobe = scann.nlist;
        return search_faiss_range(index, made, request);
    }

    bool completes_short_results(const Parameters& parameters) const override {
        return parameters.flag("ensure_topk_full") ||
               !parameters.given("nprobe");
    }

    bool takes_any_length() const override {
        return true;
    }
    bool normalizes_rows() const override {
        return false;
    }

    bool keeps_raw_rows(const faiss::Index* index, Metric) const override {
        return index != nullptr &&
               static_cast<const IndexIVFScaNN*>(index)->options.with_raw_data;
    }

    int64_t bytes_of(const faiss::Index& index) const override {
        return int64_t(static_cast<const IndexIVFScaNN&>(index).memory_usage());
    }

    Blob write(const faiss::Index& index, Metric) const override {
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(&index, &writer);
        return std::move(writer.data);
    }

    BuiltIndex read(std::span<const uint8_t> blob) const override {
        faiss_ext::SpanReader reader(blob);
        return read_scann(
                [&] { return faiss_ext::read_index(&reader, blob.size()); });
    }

    BuiltIndex read_file(const std::string& path, bool mmap) const override {
        open_file(path); // an error of the path is not one of the blob
        auto mode =
                mmap ? faiss_ext::ReadMode::Mmap : faiss_ext::ReadMode::Copy;
        return read_scann([&] { return faiss_ext::read_index(path, mode); });
    }

 private:
    static ScaNNFacts facts_of(const IndexIVFScaNN& scann) {
        return {.rows = scann.ntotal,
                .nlist = size_t(scann.nlist),
                .nprobe = size_t(scann.nprobe),
                .calibrated = scann.calibration.k > 0,
                .profiled = scann.profile != nullptr,
                .with_raw_data = scann.options.with_raw_data};
    }

    Hits search_within_bounds(
            const IndexIVFScaNN& index,
            const RangeRequest& request) const {
        std::vector<int64_t> lists =
                derived(bounds_, index)
                        ->within(index.state(), request.query, request.radius);
        if (lists.empty()) {
            return {};
        }
        faiss_ext::SearchParametersScaNN made;
        made.nprobe = lists.size();
        made.sel = request.filter.selector();
        // results depend on raw rows, not on the scores of centroids
        std::vector<float> scores(lists.size());
        faiss::RangeSearchResult found(1);
        index.range_search_preassigned(
                1,
                request.query,
                request.radius,
                lists.data(),
                scores.data(),
                &found,
                false,
                &made);
        return hits_in(found);
    }

    /// Derived from a version by the first call that needs it.
    template <class Made>
    struct Derived {
        std::shared_ptr<const Made> made;
        faiss_ext::ScaNNLists::Changes of; ///< each version has its own
    };
    template <class Made>
    std::shared_ptr<const Made> derived(
            Derived<Made>& derived,
            const IndexIVFScaNN& index) const {
        const auto& changes = index.state().lists->changes();
        std::lock_guard lock(derived_mutex_.here());
        if (derived.of != changes) {
            derived.made = std::make_shared<Made>(index.state());
            derived.of = changes;
        }
        return derived.made;
    }

    template <class Read>
    static BuiltIndex read_scann(Read&& read_index) {
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

    faiss_ext::PerProcess<std::mutex> derived_mutex_; ///< of what follows
    mutable Derived<faiss_ext::ListBounds> bounds_;
    mutable Derived<ListRows> rows_;
};

} // namespace

void register_scann_node(IndexFactory& factory) {
    factory.Register(
            "SCANN",
            [](int32_t) { return std::make_shared<ScaNNNode>(); },
            kFloat32 | kMmap);
}

} // namespace knowhere_plugin

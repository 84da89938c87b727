/*
 * faiss::InvertedListScanner: one entry at a time, for callers that walk the
 * lists themselves; faiss::DistanceComputer: the same by id. Distances are
 * those that range_search() reports.
 */

#include <algorithm>
#include <cstring>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/kernels/dispatch.h>
#include <faiss_ext/search/lookup_table.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/search/rerank.h>

namespace faiss_ext {

namespace {

/// Scores entries through one-entry lists, so that the arithmetic is that of
/// the search itself.
class Scanner : public faiss::InvertedListScanner {
 public:
    using faiss::InvertedListScanner::scan_codes;

    Scanner(const IndexIVFScaNN& index,
            bool store_pairs,
            const faiss::IDSelector* sel)
            : state_(index.state()),
              kernels_(active_kernels()),
              entry_(1, index.state().lists->layout()),
              rows_(1) {
        this->store_pairs = store_pairs;
        this->sel = sel;
        keep_max = index.metric_type == faiss::METRIC_INNER_PRODUCT;
        code_size = index.code_size;
        entry_.resize(0, 1);
    }

    void set_query(const float* query) override {
        query_ = prepare_rows(state_, 1, query, "query", unit_);
        const float* from_origin =
                state_.model->from_origin(1, query_, shifted_);
        rescorer_.begin(
                entry_,
                state_.model->score_term,
                query_,
                state_.options.normalize ? query_ : query,
                from_origin);
        std::vector<float> rotated;
        table_.build(
                kernels_,
                state_.model->pq,
                state_.model->rotation.rotated(from_origin, rotated),
                0);
    }

    void set_list(int64_t list_no, float) override {
        this->list_no = list_no;
        bias_ = state_.partition->score(query_, list_no);
    }

    float distance_to_code(const uint8_t* code) const override {
        int64_t id = 0;
        entry_.update_entries(0, 0, 1, &id, code);
        rows_[0] = {.list = 0, .offset = 0, .bias = bias_, .score = 0};
        rescorer_.rescore_best(kernels_, table_, rows_);
        return keep_max ? rows_[0].score : std::max(0.0f, -2 * rows_[0].score);
    }

 private:
    const IndexState& state_;
    const kernels::Kernels& kernels_;
    std::vector<float> unit_;
    std::vector<float> shifted_;
    const float* query_ = nullptr;
    LookupTable table_;
    float bias_ = 0;
    // A scanner belongs to one thread.
    mutable ScaNNLists entry_;
    mutable Rescorer rescorer_;
    mutable std::vector<Candidate> rows_;
};

class DistanceById : public faiss::DistanceComputer {
 public:
    explicit DistanceById(const IndexIVFScaNN& index)
            : index_(index), scanner_(index, false, nullptr) {}

    void set_query(const float* query) override {
        scanner_.set_query(query);
    }

    float operator()(int64_t id) override {
        return distance(scanner_, id);
    }

    float symmetric_dis(int64_t i, int64_t j) override {
        std::vector<float> row(index_.d);
        index_.reconstruct(i, row.data());
        Scanner scanner(index_, false, nullptr);
        scanner.set_query(row.data());
        return distance(scanner, j);
    }

 private:
    float distance(Scanner& scanner, int64_t id) const {
        int64_t place = index_.direct_map.get(id);
        int64_t list = faiss::lo_listno(place);
        faiss::InvertedLists::ScopedCodes entry(
                index_.invlists, list, faiss::lo_offset(place));
        scanner.set_list(list, 0);
        return scanner.distance_to_code(entry.get());
    }

    const IndexIVFScaNN& index_;
    Scanner scanner_;
};

} // namespace

faiss::DistanceComputer* IndexIVFScaNN::get_distance_computer() const {
    check_trained(*state_);
    return new DistanceById(*this);
}

faiss::InvertedListScanner* IndexIVFScaNN::get_InvertedListScanner(
        bool store_pairs,
        const faiss::IDSelector* sel FAISS_EXT_PARAMETER_11100(
                const faiss::IVFSearchParameters* params)) const {
    check_trained(*state_);
#if FAISS_EXT_FAISS_VERSION >= 11100
    if (sel == nullptr && params != nullptr) {
        sel = params->sel;
    }
#endif
    return new Scanner(*this, store_pairs, sel);
}

} // namespace faiss_ext

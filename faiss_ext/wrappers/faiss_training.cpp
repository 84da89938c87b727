#include <faiss_ext/wrappers/faiss_training.h>

#include <vector>

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/IndexIVFPQFastScan.h>
#include <faiss/IndexPQ.h>
#include <faiss/IndexPQFastScan.h>
#include <faiss/IndexRefine.h>
#include <faiss/VectorTransform.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/wrappers/id_maps.h>
#include <faiss_ext/memory/query_rows.h>

namespace faiss_ext {

namespace {

void check_training_rows(size_t n, size_t d, const float* x) {
    check_finite(n, d, x, "training row");
    const double squares = sum_of_squares(n * d, x);
    FAISS_THROW_IF_NOT_FMT(
            squares <= kMaxSquares,
            "the squares of the training rows sum to %g (allowed before a "
            "transform that is trained: at most %g)",
            squares,
            kMaxSquares);
}

/// Gives OPQ the codebooks that it would make itself, but without warnings.
class SilentCodebooks {
 public:
    explicit SilentCodebooks(
            const std::vector<faiss::VectorTransform*>& transforms) {
        for (faiss::VectorTransform* transform : transforms) {
            auto opq = dynamic_cast<faiss::OPQMatrix*>(transform);
            if (opq == nullptr || opq->pq != nullptr) {
                continue;
            }
            codebooks_.push_back(std::make_unique<faiss::ProductQuantizer>(
                    opq->d_out, opq->M, 8));
            codebooks_.back()->cp.min_points_per_centroid = 1;
            borrowers_.push_back(opq);
            opq->pq = codebooks_.back().get();
        }
    }
    SilentCodebooks(const SilentCodebooks&) = delete;
    SilentCodebooks& operator=(const SilentCodebooks&) = delete;
    ~SilentCodebooks() {
        for (faiss::OPQMatrix* opq : borrowers_) {
            opq->pq = nullptr;
        }
    }

 private:
    std::vector<faiss::OPQMatrix*> borrowers_;
    std::vector<std::unique_ptr<faiss::ProductQuantizer>> codebooks_;
};

void silence(faiss::ProductQuantizer& pq) {
    pq.cp.min_points_per_centroid = 1;
}

/// Replaces a wrapper of Faiss by one of ours.
template <class Ours, class Theirs>
void become(faiss::Index*& slot, Theirs* wrapper) {
    auto ours = std::make_unique<Ours>();
    static_cast<Theirs&>(*ours) = *wrapper;
    wrapper->own_fields = false;
    delete wrapper;
    slot = ours.release();
}

void silence(faiss::Index*& slot) {
    if (auto map2 = dynamic_cast<faiss::IndexIDMap2*>(slot)) {
        silence(map2->index);
        become<IdMap2>(slot, map2);
    } else if (auto map = dynamic_cast<faiss::IndexIDMap*>(slot)) {
        silence(map->index);
        become<IdMap>(slot, map);
    } else if (auto chain = dynamic_cast<faiss::IndexPreTransform*>(slot)) {
        silence(chain->index);
        become<PreTransform>(slot, chain);
    } else if (auto refine = dynamic_cast<faiss::IndexRefine*>(slot)) {
        silence(refine->base_index);
        silence(refine->refine_index);
    } else if (auto hnsw = dynamic_cast<faiss::IndexHNSW*>(slot)) {
        silence(hnsw->storage);
    } else if (auto pq = dynamic_cast<faiss::IndexPQ*>(slot)) {
        silence(pq->pq);
    } else if (auto fast = dynamic_cast<faiss::IndexPQFastScan*>(slot)) {
        silence(fast->pq);
    } else if (auto multi = dynamic_cast<faiss::MultiIndexQuantizer*>(slot)) {
        silence(multi->pq);
    } else if (auto ivf = dynamic_cast<faiss::IndexIVF*>(slot)) {
        ivf->cp.min_points_per_centroid = 1;
        silence(ivf->quantizer);
        if (auto ivf_pq = dynamic_cast<faiss::IndexIVFPQ*>(ivf)) {
            silence(ivf_pq->pq);
        } else if (
                auto ivf_fast = dynamic_cast<faiss::IndexIVFPQFastScan*>(ivf)) {
            silence(ivf_fast->pq);
        }
    }
}

} // namespace

void PreTransform::train(int64_t n, const float* x) {
    FAISS_THROW_IF_NOT_FMT(
            n >= 1,
            "%lld training rows (allowed: >= 1)",
            static_cast<long long>(n));
    std::vector<faiss::VectorTransform*> untrained;
    for (faiss::VectorTransform* transform : chain) {
        if (!transform->is_trained) {
            untrained.push_back(transform);
        }
    }
    if (!untrained.empty()) {
        check_training_rows(size_t(n), size_t(d), x);
    }
    SilentCodebooks codebooks(untrained);
    try {
        IndexPreTransform::train(n, x);
    } catch (...) {
        for (faiss::VectorTransform* transform : untrained) {
            transform->is_trained = false;
        }
        throw;
    }
}

void make_silent(std::unique_ptr<faiss::Index>& root) {
    faiss::Index* slot = root.get();
    silence(slot);
    if (slot != root.get()) {
        (void)root.release(); // deleted by silence()
        root.reset(slot);
    }
}

} // namespace faiss_ext

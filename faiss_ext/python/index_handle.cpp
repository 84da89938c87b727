#include "index_handle.h"

#include <faiss_ext/index_factory.h>

#include "wrapped_index.h"

namespace faiss_ext::python {

IndexHandle::IndexHandle(std::unique_ptr<faiss::Index> index)
        : owned_(std::move(index)),
          index_(owned_.get()),
          scann_(find_scann(index_)),
          ivf_(find_ivf(index_)) {}

void IndexHandle::make_concurrent() {
    if (scann_ != index_ || scann_ == nullptr) {
        throw py::value_error(
                "concurrent = True of " + layers(index_) +
                " (allowed: of a ScaNN index by itself)");
    }
    without_gil(ErrorOrigin::Caller, [&] {
        locks_.refuse_reentry();
        IndexLocks::ChangeScope scope(locks_, false);
        if (concurrent()) {
            return;
        }
        FAISS_THROW_IF_NOT_MSG(
                scann_->is_trained,
                "concurrent = True of an index that is not trained (allowed: "
                "after train())");
        std::unique_ptr<IndexIVFScaNN> same(scann_);
        (void)owned_.release();
        versions_owned_ = std::make_unique<VersionedScaNN>(std::move(same));
        versions_ = versions_owned_.get();
    });
}

std::shared_ptr<const faiss::Index> IndexHandle::seen() const {
    if (VersionedScaNN* versions = versions_.load()) {
        return versions->version();
    }
    return {std::shared_ptr<void>(), index_};
}

ScaNNMaintenance IndexHandle::maintain(size_t rows, double seconds) {
    return without_gil(ErrorOrigin::Caller, [&] {
        locks_.refuse_reentry();
        IndexLocks::ChangeScope scope(locks_, concurrent());
        VersionedScaNN* versions = versions_.load();
        return versions != nullptr ? versions->maintain(rows, seconds)
                                   : scann_->maintain(rows, seconds);
    });
}

} // namespace faiss_ext::python

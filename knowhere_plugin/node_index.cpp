#include <knowhere_plugin/node_index.h>

#include <algorithm>
#include <string>
#include <utility>

#include <faiss/impl/FaissAssert.h>

#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

NodeIndex::NodeIndex(BuiltIndex built, uint64_t build)
        : metric_(built.metric), build_(build) {
    auto scann = dynamic_cast<faiss_ext::IndexIVFScaNN*>(built.index.get());
    if (scann == nullptr) {
        index_ = std::move(built.index);
        return;
    }
    (void)built.index.release();
    versions_ = std::make_unique<faiss_ext::VersionedScaNN>(
            std::unique_ptr<faiss_ext::IndexIVFScaNN>(scann));
}

NodeIndex::~NodeIndex() {
    if (changing_) {
        (void)index_.release(); // half changed: it cannot be freed safely
    }
}

void NodeIndex::check_whole() const {
    FAISS_THROW_IF_NOT_MSG(
            !changing_,
            "another thread was changing the index when this process was "
            "forked: here it is half changed; build or load it anew");
}

NodeIndex::Reading NodeIndex::read(std::shared_ptr<const NodeIndex> of) {
    Reading reading;
    if (of->versions_ != nullptr) {
        reading.version_ = of->versions_->version();
        reading.index_ = reading.version_.get();
    } else {
        reading.lock_ = std::shared_lock(of->mutex_.here());
        of->check_whole();
        reading.index_ = of->index_.get();
    }
    reading.of_ = std::move(of);
    return reading;
}

void NodeIndex::change(const std::function<void(faiss::Index&)>& change) {
    if (versions_ != nullptr) {
        versions_->change(
                [&](faiss_ext::IndexIVFScaNN& index) { change(index); });
        return;
    }
    std::unique_lock lock(mutex_.here());
    check_whole();
    changing_ = true;
    try {
        change(*index_);
    } catch (...) {
        changing_ = false;
        throw;
    }
    changing_ = false;
}

CurrentIndex::Slot& CurrentIndex::here() const {
    return slot_.here(
            [](const Slot&) { return false; },
            [](const Slot& parents, Slot& fresh) {
                fresh.store(parents.whole());
            });
}

// -------------------------------------------------------- places of rows

namespace {

constexpr uint64_t kNoPlace = ~uint64_t(0);

std::vector<uint64_t> find_places(const faiss::IndexIVF& index) {
    std::vector<uint64_t> places(index.ntotal, kNoPlace);
    for (size_t list = 0; list < index.nlist; list++) {
        size_t size = index.invlists->list_size(list);
        faiss::InvertedLists::ScopedIds ids(index.invlists, list);
        for (size_t i = 0; i < size; i++) {
            if (ids[i] < 0 || ids[i] >= index.ntotal) {
                throw Fault(
                        StatusCode::invalid_binary_set,
                        "list " + std::to_string(list) + " holds id " +
                                std::to_string(ids[i]) + " of " +
                                std::to_string(index.ntotal) + " rows");
            }
            places[ids[i]] = faiss::lo_build(list, i);
        }
    }
    if (std::count(places.begin(), places.end(), kNoPlace) != 0) {
        throw Fault(
                StatusCode::invalid_binary_set,
                "the lists lack some of " + std::to_string(index.ntotal) +
                        " rows");
    }
    return places;
}

} // namespace

RowPlaces::Places RowPlaces::of(const faiss::IndexIVF& index, uint64_t build) {
    std::lock_guard lock(mutex_.here());
    if (places_ == nullptr || build_ != build ||
        places_->size() != size_t(index.ntotal)) {
        places_ = std::make_shared<const std::vector<uint64_t>>(
                find_places(index));
        build_ = build;
    }
    return places_;
}

} // namespace knowhere_plugin

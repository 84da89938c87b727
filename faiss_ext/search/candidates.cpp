#include <faiss_ext/search/candidates.h>

#include <algorithm>

namespace faiss_ext {

using kernels::kBlockSize;
using kernels::kScanSlack;
using kernels::kSelectSlack;

void Candidates::reset(const kernels::Kernels& kernels, size_t keep) {
    kernels_ = &kernels;
    keep_ = keep;
    // With room for twice as many as are kept, selection takes constant time
    // per key on average. A few blocks at least are scanned between selections.
    constexpr size_t kMinBlocks = 8;
    capacity_ = keep + std::max(keep, kMinBlocks * kBlockSize);
    if (keys_.size() < capacity_ + kScanSlack) {
        // last what was asked above: each may fail
        scratch_.resize(capacity_ + kSelectSlack);
        keys_.resize(capacity_ + kScanSlack);
    }
    count_ = 0;
    threshold_ = INT32_MIN;
}

void Candidates::lend(kernels::ScanQuery& query) {
    query.keys = keys_.data();
    query.count = count_;
    query.capacity = capacity_;
    query.enough = enough();
    query.threshold = threshold_;
}

void Candidates::take_back(const kernels::ScanQuery& query) {
    count_ = query.count;
    make_room();
}

void Candidates::make_room() {
    if (count_ >= enough() || capacity_ - count_ < kBlockSize) {
        select();
    }
}

void Candidates::select() {
    if (count_ >= keep_) {
        uint64_t smallest = kernels_->select_keys(
                {keys_.data(), count_, keep_, scratch_.data()});
        count_ = keep_;
        // Equal scores may still win by their position: keep them.
        threshold_ = key_score(smallest);
    }
}

void Candidates::finish() {
    select();
}

} // namespace faiss_ext

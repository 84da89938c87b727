#include <faiss_ext/candidates.h>

#include <algorithm>
#include <functional>

namespace faiss_ext {

using kernels::kBlockSize;
using kernels::kScanSlack;

void Candidates::reset(size_t keep) {
    keep_ = keep;
    // Room for as many again as are kept makes selection linear per key on
    // average; the floor lets a scan run some blocks between selections.
    capacity_ = keep + std::max(keep, 8 * kBlockSize);
    if (keys_.size() < capacity_ + kScanSlack) {
        keys_.resize(capacity_ + kScanSlack);
    }
    count_ = 0;
    threshold_ = INT32_MIN;
}

void Candidates::lend(kernels::ScanQuery& query) {
    query.keys = keys_.data();
    query.count = count_;
    query.capacity = capacity_;
    query.threshold = threshold_;
}

void Candidates::take_back(const kernels::ScanQuery& query) {
    count_ = query.count;
    // One threshold for a long way pays more than a tight one often.
    if (count_ >= 2 * keep_ || capacity_ - count_ < kBlockSize) {
        select();
    }
}

void Candidates::select() {
    if (count_ > keep_) {
        std::nth_element(
                keys_.begin(),
                keys_.begin() + (keep_ - 1),
                keys_.begin() + count_,
                std::greater<uint64_t>());
        count_ = keep_;
    }
    if (count_ == keep_) {
        // Equal scores may still win by their position: keep them.
        threshold_ = key_score(*std::min_element(
                keys_.begin(), keys_.begin() + count_));
    }
}

void Candidates::finish() {
    select();
}

void Candidates::finish_sorted() {
    select();
    std::sort(
            keys_.begin(), keys_.begin() + count_, std::greater<uint64_t>());
}

} // namespace faiss_ext

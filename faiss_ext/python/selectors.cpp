#include "selectors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <faiss_ext/search/filter.h>

#include "array_arguments.h"
#include "call_guard.h"

namespace faiss_ext::python {

static_assert(std::endian::native == std::endian::little, "words are bitmaps");

namespace {

/// a scan may read the bitmap by words
constexpr size_t kBitmapPadding = 64;
/// ids become a bitmap if that takes at most so many bits per id (8 bytes, as
/// much as the ids themselves; a hash set takes more)
constexpr uint64_t kBitmapBitsPerId = 64;
/// words that are joined at a time: they stay in the first cache
constexpr size_t kWordsAtATime = 512;

/// Sets the bits of the numbers begin .. end - 1 among those of n words.
void set_range(uint64_t* words, size_t n, uint64_t begin, uint64_t end) {
    end = std::min<uint64_t>(end, 64 * uint64_t(n));
    for (uint64_t i = begin; i < end;) {
        const uint64_t in_word = i % 64;
        const uint64_t count = std::min<uint64_t>(64 - in_word, end - i);
        words[i / 64] |= (~uint64_t(0) >> (64 - count)) << in_word;
        i += count;
    }
}

/// For what is made of others: long ones are not told in full.
std::string short_description(const Selector& selector) {
    constexpr size_t kMaxParts = 8;
    return selector.parts() > kMaxParts ? "..." : selector.description();
}

} // namespace

/// What is kept of for_index().
struct Selector::Table {
    std::vector<uint64_t> words; ///< padded as a bitmap
    size_t bytes;                ///< without the padding
    struct Whole : faiss::IDSelector {
        const Selector& selector;
        explicit Whole(const Selector& selector) : selector(selector) {}
        bool is_member(int64_t id) const override {
            return selector.is_member(id);
        }
    };
    std::unique_ptr<faiss::IDSelector> asked;
    std::unique_ptr<faiss::IDSelector> selector;
};

Selector::Selector(const Selector& left, const Selector* right) {
    levels_ = 1 + std::max(left.levels_, right ? right->levels_ : 0);
    parts_ = 1 + left.parts_ + (right ? right->parts_ : 0);
    if (levels_ > kMaxLevels || parts_ > kMaxParts) {
        throw py::value_error(
                "a selector of " + std::to_string(parts_) + " parts, nested " +
                std::to_string(levels_) +
                " deep (allowed: " + std::to_string(kMaxParts) + " parts, " +
                std::to_string(kMaxLevels) + " deep)");
    }
}

std::shared_ptr<const faiss::IDSelector> Selector::for_index(
        int64_t ntotal) const {
    SelectorPointer self = shared_from_this();
    const faiss::IDSelector* of_faiss_itself = of_faiss();
    if (of_faiss_itself != nullptr && is_fast()) {
        return {self, of_faiss_itself};
    }
    // after removals some ids are above ntotal
    int64_t wanted = (2 * std::max<int64_t>(ntotal, 0) / 64 + 1) * 64;
    const SelectorExtent where = extent();
    const bool all_inside =
            where.bounded && where.begin >= 0 && where.end <= wanted;
    if (table_ == nullptr || int64_t(8 * table_->bytes) < wanted) {
        auto table = std::make_shared<Table>();
        const size_t n = size_t(wanted) / 64;
        table->words.resize(n + kBitmapPadding / 8);
        table->bytes = 8 * n;
        for (size_t i = 0; i < n; i += kWordsAtATime) {
            fill(int64_t(64 * i),
                 table->words.data() + i,
                 std::min(kWordsAtATime, n - i));
        }
        auto bitmap = reinterpret_cast<const uint8_t*>(table->words.data());
        if (all_inside && of_faiss_itself == nullptr) {
            table->selector = std::make_unique<faiss::IDSelectorBitmap>(
                    table->bytes, bitmap);
        } else {
            // no pointer to itself, which would keep it for ever: whoever
            // holds the result holds this, too
            if (of_faiss_itself == nullptr) {
                table->asked = std::make_unique<Table::Whole>(*this);
                of_faiss_itself = table->asked.get();
            }
            table->selector = std::make_unique<TabledSelector>(
                    *of_faiss_itself, bitmap, table->bytes);
        }
        table_ = std::move(table);
    }
    struct Held {
        SelectorPointer self;
        std::shared_ptr<const Table> table;
    };
    auto held = std::make_shared<Held>(Held{std::move(self), table_});
    return {held, held->table->selector.get()};
}

// ------------------------------------------------------------------- ids

void IdsSelector::use_bitmap(size_t bytes) {
    selector_ =
            std::make_unique<faiss::IDSelectorBitmap>(bytes, bitmap_.data());
}

void IdsSelector::set_flags(const uint8_t* flags, size_t n) {
    size_t bytes = (n + 7) / 8;
    bitmap_.assign(bytes + kBitmapPadding, 0);
    for (size_t i = 0; i < n; i++) {
        bool allowed = flags[i] != 0;
        bitmap_[i / 8] |= uint8_t(allowed) << (i % 8);
        count_ += allowed;
    }
    use_bitmap(bytes);
}

void IdsSelector::set_bits(const uint8_t* bytes, size_t n) {
    bitmap_.assign(bytes, bytes + n);
    bitmap_.resize(n + kBitmapPadding);
    for (size_t i = 0; i < n; i++) {
        count_ += size_t(std::popcount(bytes[i]));
    }
    use_bitmap(n);
}

void IdsSelector::set_ids(std::vector<int64_t> ids) {
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    count_ = ids.size();
    bool dense = ids.empty() ||
                 (ids.front() >= 0 &&
                  uint64_t(ids.back()) / kBitmapBitsPerId < ids.size());
    if (!dense) {
        selector_ = std::make_unique<faiss::IDSelectorBatch>(
                ids.size(), ids.data());
        ids_ = std::move(ids);
        return;
    }
    size_t bytes = ids.empty() ? 0 : size_t(ids.back()) / 8 + 1;
    bitmap_.assign(bytes + kBitmapPadding, 0);
    for (int64_t id : ids) {
        bitmap_[id / 8] |= uint8_t(1) << (id % 8);
    }
    use_bitmap(bytes);
}

bool IdsSelector::is_member(int64_t id) const {
    return selector_->is_member(id);
}

SelectorExtent IdsSelector::extent() const {
    if (!ids_.empty()) {
        int64_t last = ids_.back();
        return {true, ids_.front(), last + (last < INT64_MAX)};
    }
    return {true, 0, int64_t(8 * (bitmap_.size() - kBitmapPadding))};
}

void IdsSelector::fill(int64_t first, uint64_t* words, size_t n) const {
    std::fill_n(words, n, 0);
    if (!ids_.empty()) {
        auto id = std::lower_bound(ids_.begin(), ids_.end(), first);
        for (; id != ids_.end() && (*id - first) / 64 < int64_t(n); ++id) {
            words[(*id - first) / 64] |= uint64_t(1) << (*id % 64);
        }
        return;
    }
    const size_t begin = size_t(first) / 8;
    const size_t bytes = bitmap_.size() - kBitmapPadding;
    if (begin < bytes) {
        std::memcpy(
                words, bitmap_.data() + begin, std::min(8 * n, bytes - begin));
    }
}

std::string IdsSelector::description() const {
    return std::to_string(count_) + " ids";
}

Filter::Filter(py::handle value) {
    py::array given = mask_or_ids("filter", value);
    if (is_mask(given)) {
        Flags flags = flags_argument("filter", given);
        is_mask_ = true;
        flags_ = size_t(flags.n);
        without_gil(
                ErrorOrigin::Caller, [&] { set_flags(flags.data, flags_); });
        return;
    }
    Ids ids = ids_argument("filter", given);
    without_gil(ErrorOrigin::Caller, [&] {
        set_ids(std::vector<int64_t>(ids.data, ids.data + ids.n));
    });
}

void Filter::check_covers(int64_t ntotal) const {
    if (is_mask_ && int64_t(flags_) < ntotal) {
        throw py::value_error(
                "filter is a mask of " + std::to_string(flags_) +
                " flags; the index holds " + std::to_string(ntotal) +
                " vectors, so ids beyond the mask exist: want one flag for "
                "each id 0..n-1, n >= " +
                std::to_string(ntotal));
    }
}

std::string Filter::description() const {
    return is_mask_ ? "mask of " + std::to_string(flags_) + " flags, " +
                              std::to_string(count()) + " set"
                    : IdsSelector::description();
}

ArraySelector::ArraySelector(py::handle value) {
    Ids ids = ids_argument("ids", value);
    without_gil(ErrorOrigin::Caller, [&] {
        set_ids(std::vector<int64_t>(ids.data, ids.data + ids.n));
    });
}

ArraySelector::ArraySelector(std::vector<int64_t> ids) {
    without_gil(ErrorOrigin::Caller, [&] { set_ids(std::move(ids)); });
}

BatchSelector::BatchSelector(py::handle value) {
    Ids ids = ids_argument("ids", value);
    without_gil(ErrorOrigin::Caller, [&] {
        set_ids(std::vector<int64_t>(ids.data, ids.data + ids.n));
    });
}

BitmapSelector::BitmapSelector(py::handle bitmap) {
    Bytes bytes = bitmap_argument("bitmap", bitmap);
    bytes_ = size_t(bytes.n);
    without_gil(ErrorOrigin::Caller, [&] { set_bits(bytes.data, bytes_); });
}

std::string BitmapSelector::description() const {
    return "bitmap of " + std::to_string(8 * bytes_) + " ids, " +
           std::to_string(count()) + " set";
}

// ----------------------------------------------------------- range and all

RangeSelector::RangeSelector(int64_t imin, int64_t imax) : range_(imin, imax) {}

bool RangeSelector::is_member(int64_t id) const {
    return id >= range_.imin && id < range_.imax;
}

std::string RangeSelector::description() const {
    return "ids " + std::to_string(range_.imin) + ".." +
           std::to_string(range_.imax) + " without the last";
}

SelectorExtent RangeSelector::extent() const {
    return {true, range_.imin, std::max(range_.imin, range_.imax)};
}

void RangeSelector::fill(int64_t first, uint64_t* words, size_t n) const {
    std::fill_n(words, n, 0);
    if (range_.imax > first) {
        set_range(
                words,
                n,
                uint64_t(std::max(range_.imin, first) - first),
                uint64_t(range_.imax - first));
    }
}

bool AllSelector::is_member(int64_t) const {
    return true;
}

std::string AllSelector::description() const {
    return "all ids";
}

SelectorExtent AllSelector::extent() const {
    return {};
}

void AllSelector::fill(int64_t, uint64_t* words, size_t n) const {
    std::fill_n(words, n, ~uint64_t(0));
}

// -------------------------------------------------------- made of others

NotSelector::NotSelector(SelectorPointer sel)
        : Selector(*sel, nullptr), sel_(std::move(sel)) {}

bool NotSelector::is_member(int64_t id) const {
    return !sel_->is_member(id);
}

std::string NotSelector::description() const {
    return "not (" + short_description(*sel_) + ")";
}

SelectorExtent NotSelector::extent() const {
    return {};
}

void NotSelector::fill(int64_t first, uint64_t* words, size_t n) const {
    sel_->fill(first, words, n);
    for (size_t i = 0; i < n; i++) {
        words[i] = ~words[i];
    }
}

void NotSelector::check_covers(int64_t ntotal) const {
    sel_->check_covers(ntotal);
}

PairSelector::PairSelector(
        Join join,
        SelectorPointer left,
        SelectorPointer right)
        : Selector(*left, right.get()),
          join_(join),
          left_(std::move(left)),
          right_(std::move(right)) {}

void PairSelector::check_covers(int64_t ntotal) const {
    left_->check_covers(ntotal);
    right_->check_covers(ntotal);
}

bool PairSelector::is_member(int64_t id) const {
    const bool left = left_->is_member(id);
    switch (join_) {
        case Join::And:
            return left && right_->is_member(id);
        case Join::Or:
            return left || right_->is_member(id);
        case Join::Xor:
            break;
    }
    return left != right_->is_member(id);
}

std::string PairSelector::description() const {
    const char* word = join_ == Join::And  ? ") and ("
                       : join_ == Join::Or ? ") or ("
                                           : ") xor (";
    return "(" + short_description(*left_) + word + short_description(*right_) +
           ")";
}

SelectorExtent PairSelector::extent() const {
    const SelectorExtent a = left_->extent();
    const SelectorExtent b = right_->extent();
    if (join_ != Join::And) {
        return {a.bounded && b.bounded,
                std::min(a.begin, b.begin),
                std::max(a.end, b.end)};
    }
    if (!a.bounded || !b.bounded) {
        return a.bounded ? a : b;
    }
    return {true, std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

void PairSelector::fill(int64_t first, uint64_t* words, size_t n) const {
    std::vector<uint64_t> other(n);
    left_->fill(first, words, n);
    right_->fill(first, other.data(), n);
    for (size_t i = 0; i < n; i++) {
        words[i] = join_ == Join::And  ? words[i] & other[i]
                   : join_ == Join::Or ? words[i] | other[i]
                                       : words[i] ^ other[i];
    }
}

} // namespace faiss_ext::python

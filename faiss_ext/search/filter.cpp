#include <faiss_ext/search/filter.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace faiss_ext {

using kernels::kBlockSize;

namespace {

size_t words_of(const faiss::IDSelectorBitmap& bitmap) {
    return (bitmap.n + 7) / 8;
}

/// 64 bits of it, the last ones padded with zeros.
uint64_t word_of(const faiss::IDSelectorBitmap& bitmap, size_t i) {
    uint64_t word = 0;
    std::memcpy(
            &word,
            bitmap.bitmap + 8 * i,
            std::min(sizeof(word), bitmap.n - 8 * i));
    return word;
}

/// How many bits are set, from words at even distances.
double estimate(const faiss::IDSelectorBitmap& bitmap) {
    constexpr size_t kSample = 256;
    const size_t words = words_of(bitmap);
    const size_t step = std::max<size_t>(words / kSample, 1);
    size_t sampled = 0;
    size_t bits = 0;
    for (size_t i = 0; i < words; i += step, sampled++) {
        bits += size_t(std::popcount(word_of(bitmap, i)));
    }
    return sampled == 0 ? 0 : double(bits) * double(words) / double(sampled);
}

} // namespace

Filter::Filter(const faiss::IDSelector* sel)
        : sel_(sel),
          tabled_(dynamic_cast<const TabledSelector*>(sel)),
          bitmap_(tabled_ != nullptr
                          ? &tabled_->table
                          : dynamic_cast<const faiss::IDSelectorBitmap*>(sel)) {
}

/// What the kernel took for ids that do not pass. @return  how many do pass
size_t Filter::add_ids_beyond_table(
        const int64_t* ids,
        size_t n,
        uint32_t* words) const {
    const int64_t last = int64_t(8 * tabled_->table.n) - 1;
    int64_t signs = 0; // one of them is set where the table ends too early
    for (size_t i = 0; i < n; i++) {
        signs |= ids[i] | (last - (ids[i] & INT64_MAX));
    }
    size_t passing = 0;
    for (size_t i = 0; signs < 0 && i < n; i++) {
        if (!tabled_->covers(ids[i]) && tabled_->whole.is_member(ids[i])) {
            words[i / kBlockSize] |= uint32_t(1) << (i % kBlockSize);
            passing++;
        }
    }
    return passing;
}

size_t Filter::masks(
        const kernels::Kernels& kernels,
        const int64_t* ids,
        size_t n,
        uint32_t* words) const {
    if (bitmap_ != nullptr) {
        // IDSelectorBitmap::n is the number of bytes
        size_t passing = kernels.filter_masks(
                {ids, n, bitmap_->bitmap, int64_t(bitmap_->n) * 8, words});
        return tabled_ == nullptr
                       ? passing
                       : passing + add_ids_beyond_table(ids, n, words);
    }
    size_t passing = 0;
    for (size_t begin = 0; begin < n; begin += kBlockSize) {
        uint32_t word = 0;
        size_t size = std::min(kBlockSize, n - begin);
        for (size_t i = 0; i < size; i++) {
            bool passed = passes(ids[begin + i]);
            word |= uint32_t(passed) << i;
            passing += passed;
        }
        words[begin / kBlockSize] = word;
    }
    return passing;
}

bool Filter::list_ids(size_t most, std::vector<int64_t>& ids) const {
    ids.clear();
    if (tabled_ != nullptr) {
        return Filter(&tabled_->whole).list_ids(most, ids);
    }
    if (bitmap_ != nullptr) {
        if (estimate(*bitmap_) > double(most)) {
            return false;
        }
        for (size_t w = 0; w < words_of(*bitmap_) && ids.size() <= most; w++) {
            uint64_t word = word_of(*bitmap_, w);
            for (; word != 0; word &= word - 1) {
                ids.push_back(int64_t(64 * w + std::countr_zero(word)));
            }
        }
    } else if (auto list = dynamic_cast<const faiss::IDSelectorArray*>(sel_)) {
        if (size_t(list->n) > most) {
            return false;
        }
        ids.assign(list->ids, list->ids + list->n);
        std::sort(ids.begin(), ids.end());
        ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    } else if (auto set = dynamic_cast<const faiss::IDSelectorBatch*>(sel_)) {
        if (set->set.size() > most) {
            return false;
        }
        ids.assign(set->set.begin(), set->set.end());
    } else if (auto range = dynamic_cast<const faiss::IDSelectorRange*>(sel_)) {
        if (range->imax > range->imin &&
            uint64_t(range->imax) - uint64_t(range->imin) > most) {
            return false;
        }
        for (int64_t id = range->imin; id < range->imax; id++) {
            ids.push_back(id);
        }
    } else {
        return false;
    }
    return ids.size() <= most;
}

} // namespace faiss_ext

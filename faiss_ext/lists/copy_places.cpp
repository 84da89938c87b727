#include <faiss_ext/lists/copy_places.h>

namespace faiss_ext {

using faiss::lo_build;
using faiss::lo_listno;
using faiss::lo_offset;

CopyPlaces::CopyPlaces(const ScaNNLists& primary, const ScaNNLists& copies)
        : places_(primary.nlist) {
    for (size_t l = 0; l < primary.nlist; l++) {
        places_[l].assign(primary.list(l).size(), kNone);
    }
    for (size_t l = 0; l < copies.nlist; l++) {
        const ScaNNList& list = copies.list(l);
        for (size_t i = 0; i < list.size(); i++) {
            const uint64_t place = list.primary[i];
            check_primary_place(place, primary);
            FAISS_THROW_IF_NOT_FMT(
                    get(place) == kNone,
                    "damaged spilled copies: entry %zu of list %zu has two",
                    size_t(lo_offset(place)),
                    size_t(lo_listno(place)));
            set(place, lo_build(l, i));
        }
    }
}

uint64_t CopyPlaces::get(uint64_t primary) const {
    const std::vector<uint64_t>& list = places_[lo_listno(primary)];
    size_t offset = lo_offset(primary);
    return offset < list.size() ? list[offset] : kNone;
}

void CopyPlaces::set(uint64_t primary, uint64_t copy) {
    std::vector<uint64_t>& list = places_[lo_listno(primary)];
    size_t offset = lo_offset(primary);
    if (offset >= list.size()) {
        if (copy == kNone) {
            return;
        }
        list.resize(offset + 1, kNone);
    }
    list[offset] = copy;
}

void CopyPlaces::truncate(size_t list_no, size_t size) {
    if (size < places_[list_no].size()) {
        places_[list_no].resize(size);
    }
}

size_t CopyPlaces::memory_usage() const {
    size_t total = places_.capacity() * sizeof(std::vector<uint64_t>);
    for (const auto& list : places_) {
        total += list.capacity() * sizeof(uint64_t);
    }
    return total;
}

} // namespace faiss_ext
